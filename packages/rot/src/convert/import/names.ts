/** What the tensors of the published trainer are: its module tree names most of them several times. */

/** A name of a state dict, understood. */
export type Meaning =
  /** A parameter of the model, by Hugging Face's key. */
  | { readonly part: "model"; readonly key: string }
  /** A matrix of an adapter, by PEFT's key. */
  | { readonly part: "adapter"; readonly key: string }
  /** A parameter of the projection head, by its name in `projection_head.bin`. */
  | { readonly part: "head"; readonly key: string }
  /** A part of the trainer that no model needs: what draws and what encoded the chains. */
  | { readonly part: "other" };

/** What wrapping modules put before a name, from outside in; each may be there or not. */
const wrappers = ["module.", "vision_encoder.mllm_model.", "base_model.model."];

/** As in the published loader, which drops what has one of these in its name. */
const dropped = /text_renderer|vision_encoder\.(ocr|clip|sam)/;

/**
 * What a name means, whichever conversion it went through: whole, without one of its prefixes, or as an alias
 * (`language_model.…`, `llm_lm_head.weight`).
 */
export function meaningOf(name: string): Meaning {
  if (dropped.test(name)) return { part: "other" };
  let rest = name;
  for (const wrapper of wrappers) if (rest.startsWith(wrapper)) rest = rest.slice(wrapper.length);
  const [, head] = /^projection_head\.(.+)$/.exec(rest) ?? [];
  if (head !== undefined) return { part: "head", key: head };
  if (rest.startsWith("llm_lm_head.")) rest = rest.slice("llm_".length);
  if (/^(language_model|visual)\./.test(rest)) rest = `model.${rest}`;
  const [, path, side] = /^(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(rest) ?? [];
  if (path !== undefined) return { part: "adapter", key: `base_model.model.${path}.lora_${side}.weight` };
  return { part: "model", key: rest.replace(/\.base_layer\.(weight|bias)$/, ".$1") };
}

/** The path of the linear that an adapter's matrix is of. */
export const adaptedPath = (key: string): string =>
  key.slice("base_model.model.".length).replace(/\.lora_[AB]\.weight$/, "");

/** The names that the published trainer gives a tensor; the first is its own, the others are aliases of it. */
export function publishedNames(key: string, lora: boolean, adapted: ReadonlySet<string>): string[] {
  const wrapper = `vision_encoder.mllm_model.${lora ? "base_model.model." : ""}`;
  if (key === "lm_head.weight") return [`${wrapper}${key}`, "llm_lm_head.weight"];
  const own = adapted.has(key.replace(/\.[^.]*$/, "")) ? key.replace(/\.(weight|bias)$/, ".base_layer.$1") : key;
  return [`${wrapper}${own}`, ...(own.startsWith("model.language_model.") ? [own.slice("model.".length)] : [])];
}
