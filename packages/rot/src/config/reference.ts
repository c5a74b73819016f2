/**
 * The published configuration files, translated. Parity follows the published code, not its YAML: a key that the code never
 * read is named in a warning and left out.
 */

type Tree = { [key: string]: unknown };

/** Their key → ours. */
const translated: Readonly<Record<string, string>> = {
  "data.dataset_name": "data.dataset",
  "rendering.font_size": "rendering.font_size",
  "llm_model.model_path": "model",
  "training.batch_size": "training.batch_size",
  "training.num_epochs": "training.num_epochs",
  "training.learning_rate": "optimizer.lr",
  "training.warmup_steps": "optimizer.warmup_steps",
  "training.gradient_accumulation_steps": "training.gradient_accumulation_steps",
  "training.max_grad_norm": "optimizer.max_grad_norm",
  "training.projection_hidden_dim": "head.hidden",
  "training.lora_r": "lora.r",
  "training.lora_alpha": "lora.alpha",
  "training.lora_dropout": "lora.dropout",
  "training.lora_target_modules": "lora.target_modules",
  "training.use_uncertainty_weighting": "loss.uncertainty",
  "training.loss_weights.lm_loss_weight": "loss.language_weight",
  "training.freeze_projection_head": "stage2.freeze_head",
  "logging.save_interval": "checkpoint.every",
  "logging.checkpoint_dir": "output",
  "logging.keep_last_n_checkpoints": "checkpoint.keep_last",
  "logging.stage1_checkpoint": "stage1_checkpoint",
  "misc.seed": "seed",
};

/** Keys that did nothing there, and so do nothing here. */
const idle = new Set([
  "data.cache_dir",
  "data.train_split",
  "data.test_split",
  "data.save_rendered_images",
  "data.rendered_images_dir",
  "data.max_save_images",
  "rendering.image_size",
  "rendering.background_color",
  "rendering.text_color",
  "rendering.padding",
  "rendering.line_spacing",
  "ocr_model.model_path",
  "ocr_model.device",
  "ocr_model.dtype",
  "llm_model.device",
  "llm_model.dtype",
  "training.fp16",
  "training.bf16",
  "training.dataloader_num_workers",
  "training.loss_type",
  "training.include_img_end_loss",
  "training.include_answer_loss",
  "deepspeed.zero_optimization",
  "deepspeed.activation_checkpointing",
]);

/** Keys of the machinery around the published code that have no counterpart here. */
const foreign = new Set([
  "training.dataloader_pin_memory",
  "deepspeed.config_file",
  "logging.log_dir",
  "logging.log_interval",
  "misc.num_workers",
]);

/** Keys that are read together. */
const joint = new Set([
  "data.processed_dir",
  "llm_model.use_custom_llm",
  "training.use_projection_head",
  "training.freeze_vision",
  "training.enable_lora",
  "training.include_vision_loss",
  "training.loss_weights.vision_loss_weight",
  "training.stage2_mode",
  "training.train_lm_head_only",
  "training.full_finetuning",
]);

/** Whether a tree has the sections of the published files, which ours do not have. */
export const isReferenceConfig = (tree: Tree): boolean =>
  ["ocr_model", "llm_model", "logging", "misc", "deepspeed"].some((section) => Object.hasOwn(tree, section));

/** A published configuration in our keys. */
export interface Translation {
  readonly tree: Tree;
  readonly warnings: readonly string[];
  /** Our key → theirs. */
  readonly origins: ReadonlyMap<string, string>;
}

/**
 * Translates a published configuration. Keys that neither it nor the published code knows stay under their names, and the
 * schema then refuses them.
 *
 * @param place  where a key stands, for warnings
 */
export function translateReference(tree: Tree, place: (path: string) => string): Translation {
  const theirs = new Map<string, unknown>();
  flatten(tree, "", theirs);
  const ours: Tree = {};
  const origins = new Map<string, string>();
  const warnings: string[] = [];
  const put = (path: string, value: unknown, from: string): void => {
    assign(ours, path.split("."), value);
    origins.set(path, from);
  };
  const get = (key: string): unknown => theirs.get(key);

  for (const [key, value] of theirs) {
    const own = translated[key];
    if (own) put(own, numeric(own, value), key);
    else if (idle.has(key) || isUnder(key, idle))
      warnings.push(`${place(key)}: ${key} never had an effect, and has none`);
    else if (foreign.has(key) || isUnder(key, foreign)) warnings.push(`${place(key)}: ${key} has no meaning here`);
    else if (!joint.has(key)) put(key, value, key);
  }
  const dataset = get("data.dataset_name");
  const folder = get("data.processed_dir");
  if (typeof dataset === "string" && typeof folder === "string") {
    put("data.dataset", `${folder}/${dataset}_train_processed.jsonl`, "data.dataset_name");
  }
  const isStage2 = get("training.stage2_mode") === true;
  put("stage", isStage2 ? "2" : "1", "training.stage2_mode");
  const vision = get("training.loss_weights.vision_loss_weight");
  if (vision !== undefined)
    put(
      isStage2 ? "loss.stage2_vision_weight" : "loss.vision_weight",
      vision,
      "training.loss_weights.vision_loss_weight",
    );
  if (get("training.include_vision_loss") === false)
    put(isStage2 ? "loss.stage2_vision_weight" : "loss.vision_weight", 0, "training.include_vision_loss");
  if (isStage2) {
    const other = get("training.train_lm_head_only") === true ? "lm_head" : "none";
    const mode =
      get("training.full_finetuning") === true ? "full" : get("training.enable_lora") === false ? other : "lora";
    put("stage2.mode", mode, "training.enable_lora");
  }
  for (const [key, wanted] of [
    ["llm_model.use_custom_llm", true],
    ["training.use_projection_head", true],
    ["training.freeze_vision", true],
  ] as const) {
    const value = get(key);
    if (value !== undefined && value !== wanted)
      warnings.push(`${place(key)}: ${key} is ${JSON.stringify(value)}, and only ${String(wanted)} is built`);
  }
  return { tree: ours, warnings, origins };
}

/** YAML 1.1 reads `2e-5` as text; the published files hold it so. */
const numeric = (path: string, value: unknown): unknown =>
  path === "optimizer.lr" && typeof value === "string" && value.trim() !== "" && Number.isFinite(Number(value))
    ? Number(value)
    : value;

const isUnder = (key: string, keys: ReadonlySet<string>): boolean =>
  [...keys].some((known) => key.startsWith(`${known}.`));

function flatten(value: unknown, path: string, into: Map<string, unknown>): void {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, path === "" ? key : `${path}.${key}`, into);
  } else into.set(path, value);
}

function assign(tree: Tree, [key = "", ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0)
    Object.defineProperty(tree, key, { value, enumerable: true, writable: true, configurable: true });
  else {
    const inner = Object.hasOwn(tree, key) ? tree[key] : undefined;
    const next = typeof inner === "object" && inner !== null ? (inner as Tree) : {};
    Object.defineProperty(tree, key, { value: next, enumerable: true, writable: true, configurable: true });
    assign(next, rest, value);
  }
}
