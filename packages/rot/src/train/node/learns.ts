/** What of a student learns. Node only. */
import { createLora, type LoraConfig } from "@rot/models";
import { type Device, key, requireGrad, type Tensor } from "@rot/tensor";
import type { Student, StudentOptions } from "../../bundle/node/open-student.ts";
import type { RunConfig } from "../../config/schema.ts";

/** What learns, by name, and the keys of the base's weights among it. */
export interface Learns {
  readonly learns: Map<string, Tensor>;
  readonly trained: string[];
}

/** Fresh adapters, as a student asks for them. */
export const adapters =
  ({ lora, seed }: RunConfig, device: Device): NonNullable<StudentOptions["lora"]> =>
  (linears) => {
    const config: LoraConfig = {
      r: lora.r,
      alpha: lora.alpha,
      dropout: lora.dropout,
      targetModules: lora.target_modules,
      // The vision tower stays as it is, whatever its linears are called.
      excludeModules: String.raw`model\.visual\..*`,
    };
    return createLora(config, linears, device, { seed: key(seed).for("lora") });
  };

/** The decoder: its adapters, all of it, or its output matrix. */
export function learnsOf({ pretrained }: Student, mode: RunConfig["stage2"]["mode"]): Learns {
  if (pretrained.lora) {
    return {
      learns: new Map([...pretrained.lora.parameters].map(([name, parameter]) => [name, requireGrad(parameter)])),
      trained: [],
    };
  }
  const output = pretrained.config.text.tied ? "model.language_model.embed_tokens.weight" : "lm_head.weight";
  const trained = [...pretrained.weights.keys()].filter((name) =>
    mode === "lm_head" ? name === output : !name.startsWith("model.visual."),
  );
  const learns = new Map(trained.map((name) => [name, requireGrad(pretrained.weights.get(name) as Tensor)]));
  return { learns, trained };
}
