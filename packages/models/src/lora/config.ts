/** LoRA configurations, and `adapter_config.json` as PEFT spells them. */
import { z } from "zod";
import { WeightsError } from "../weights/error.ts";
import type { Targets } from "./targets.ts";

/** Which linears get an adapter, and of what kind. */
export interface LoraConfig {
  /** The rank, unless {@link rankPattern} has another for a module. */
  readonly r: number;
  /** The numerator of the scaling, unless {@link alphaPattern} has another for a module. */
  readonly alpha: number;
  /** The probability with which an element of a linear's input is dropped on its way into A; 0 by default. */
  readonly dropout?: number;
  /** Scales by alpha / √r in place of alpha / r. */
  readonly rslora?: boolean;
  readonly targetModules: Targets;
  /** Modules that are left out though targeted. */
  readonly excludeModules?: Targets;
  readonly rankPattern?: ReadonlyMap<string, number>;
  readonly alphaPattern?: ReadonlyMap<string, number>;
}

const targets = z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(10_000)]);
const rank = z.int().positive().max(65_536);
/** Every key is tried on every linear. */
const few = { error: "has more than 2000 keys" };
const isFew = (record: object): boolean => Object.keys(record).length <= 2000;
const ranks = z.record(z.string(), rank).refine(isFew, few).nullish();
const alphas = z.record(z.string(), z.number()).refine(isFew, few).nullish();

const schema = z.looseObject({
  peft_type: z.literal("LORA"),
  r: rank,
  lora_alpha: z.number(),
  lora_dropout: z.number().min(0).lt(1).default(0),
  use_rslora: z.boolean().default(false),
  target_modules: targets,
  exclude_modules: targets.nullish(),
  rank_pattern: ranks,
  alpha_pattern: alphas,
  bias: z.literal("none").default("none"),
  // The others change the weights below, which the adapter's file does not hold.
  init_lora_weights: z.union([z.boolean(), z.literal(["gaussian", "eva", "orthogonal"])]).default(true),
});

/** What changes nothing about what the tensors of an adapter mean. */
const idle: ReadonlySet<string> = new Set([
  "auto_mapping",
  "base_model_name_or_path",
  "ensure_weight_tying",
  "eva_config",
  "inference_mode",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
  "task_type",
]);

/**
 * The configuration in an `adapter_config.json`.
 *
 * @param json   the parsed file
 * @param where  what messages call it
 * @throws {WeightsError} naming the field that is wrong, or set to something that is not built here (DoRA, trained biases,
 *   `modules_to_save`, …)
 */
export function parseAdapterConfig(json: unknown, where: string): LoraConfig {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new WeightsError(`${where}: ${issue?.path.join(".").slice(0, 80) || "it"}: ${issue?.message}`);
  }
  const { data } = parsed;
  for (const [field, value] of Object.entries(data)) {
    if (field in schema.shape || idle.has(field) || isUnset(value)) continue;
    const shown = (JSON.stringify(value) ?? "").slice(0, 60);
    throw new WeightsError(`${where}: ${JSON.stringify(field.slice(0, 80))} is ${shown}, which is not supported`);
  }
  return {
    r: data.r,
    alpha: data.lora_alpha,
    dropout: data.lora_dropout,
    rslora: data.use_rslora,
    targetModules: data.target_modules,
    ...(data.exclude_modules ? { excludeModules: data.exclude_modules } : {}),
    rankPattern: new Map(Object.entries(data.rank_pattern ?? {})),
    alphaPattern: new Map(Object.entries(data.alpha_pattern ?? {})),
  };
}

const isUnset = (value: unknown): boolean =>
  value === null || value === false || (typeof value === "object" && Object.keys(value as object).length === 0);

/** The text of an `adapter_config.json`, keys sorted as PEFT sorts them. */
export function printAdapterConfig(config: LoraConfig, baseModel: string | null): string {
  const list = (given: Targets | undefined): string | string[] | null =>
    given === undefined ? null : typeof given === "string" ? given : [...given];
  const json = {
    alpha_pattern: Object.fromEntries(config.alphaPattern ?? []),
    base_model_name_or_path: baseModel,
    bias: "none",
    exclude_modules: list(config.excludeModules),
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout ?? 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: config.r,
    rank_pattern: Object.fromEntries(config.rankPattern ?? []),
    target_modules: list(config.targetModules),
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: config.rslora ?? false,
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}
