/** What of a student learns. Node only. */
import { createLora, type LoraConfig, type Pretrained } from "@rot/models";
import { type Device, key, requireGrad, type Tensor } from "@rot/tensor";
import { EMBEDDING_KEY, HEAD_KEY } from "../../bundle/markers.ts";
import type { Student, StudentOptions } from "../../bundle/node/open-student.ts";
import type { RunConfig } from "../../config/schema.ts";

/** What learns, by name, and the keys of the base's weights among it. */
export interface Learns {
  readonly learns: Map<string, Tensor>;
  readonly trained: string[];
}

/** The paths that adapters leave out: the vision tower stays as it is, whatever its linears are called. */
export const VISION_TOWER = String.raw`model\.visual\..*`;

/** Fresh adapters, as a student asks for them. */
export const adapters =
  ({ lora, seed }: RunConfig, device: Device): NonNullable<StudentOptions["lora"]> =>
  (linears) => {
    const config: LoraConfig = {
      r: lora.r,
      alpha: lora.alpha,
      dropout: lora.dropout,
      targetModules: lora.target_modules,
      excludeModules: VISION_TOWER,
    };
    return createLora(config, linears, device, { seed: key(seed).for("lora") });
  };

/** Which of the base's own weights a mode trains: all but the vision tower's, the output matrix, or none. */
export function trainsWeight(
  mode: RunConfig["stage2"]["mode"],
  { config }: Pick<Pretrained, "config">,
): (key: string) => boolean {
  const output = config.text.tied ? EMBEDDING_KEY : HEAD_KEY;
  return (key) => (mode === "full" ? !key.startsWith("model.visual.") : mode === "lm_head" && key === output);
}

/** The decoder: its adapters, all of it, or its output matrix. */
export function learnsOf({ pretrained }: Student, mode: RunConfig["stage2"]["mode"]): Learns {
  if (pretrained.lora) {
    return {
      learns: new Map([...pretrained.lora.parameters].map(([name, parameter]) => [name, requireGrad(parameter)])),
      trained: [],
    };
  }
  const trained = [...pretrained.weights.keys()].filter(trainsWeight(mode, pretrained));
  const learns = new Map(trained.map((name) => [name, requireGrad(pretrained.weights.get(name) as Tensor)]));
  return { learns, trained };
}
