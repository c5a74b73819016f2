/**
 * The decoder of Qwen3-VL.
 *
 * Axes: B sequences · L tokens in this call · D model width · H query heads · G key/value heads · K head width ·
 * F feed-forward width
 *
 * @see Qwen3VLTextModel in transformers, models/qwen3_vl/modeling_qwen3_vl.py
 */
import { attention, type AttentionRule, rmsNorm, rotary, swiglu } from "@rot/kernels";
import { checkpoint, gatherRows, scope, type Tensor } from "@rot/tensor";
import type { KeysValues } from "../kv-cache.ts";
import { addToRows, asRows, linear, replaceRows } from "../layers.ts";
import type { ForwardOptions } from "../vision-language-model.ts";
import type { Weights } from "../weights/weights.ts";
import type { TextConfig } from "./config.ts";
import type { Rotation } from "./rotation.ts";

/** What all layers of one call share. */
interface Context extends Rotation {
  /** i32 [B or 1, L, 2], which keys each query sees; null for all that are there. */
  readonly visible: Tensor | null;
  /** Query i sees no row after i. */
  readonly causal: boolean;
  readonly rules?: readonly AttentionRule[] | undefined;
}

/** Adds the new keys and values to those of earlier tokens, and gives all of them. */
type Append = (fresh: KeysValues) => KeysValues;

/** Grouped-query attention. Queries and keys are normalised head by head, then turned; values are neither. */
function selfAttention(w: Weights, { D, H, G, K, attentionBias: bias, rmsNormEps: eps }: TextConfig) {
  const q = linear(w.at("q_proj"), H * K, D, { bias });
  const k = linear(w.at("k_proj"), G * K, D, { bias });
  const v = linear(w.at("v_proj"), G * K, D, { bias });
  const o = linear(w.at("o_proj"), D, H * K, { bias });
  const qNorm = w.get("q_norm.weight", [K]);
  const kNorm = w.get("k_norm.weight", [K]);

  /** [B, L, D] → [B, L, D], added to the residual */
  return (x: Tensor, residual: Tensor, { cos, sin, causal, visible, rules = [] }: Context, append: Append): Tensor => {
    const { B, L } = x.dims("B L _");
    const turn = (heads: Tensor): Tensor => rotary(heads, cos, sin, { heads: true });
    const queries = turn(rmsNorm(q(x).reshape(B, L, H, K), qNorm, { eps }));
    const { keys, values } = append({
      keys: turn(rmsNorm(k(x).reshape(B, L, G, K), kNorm, { eps })),
      values: v(x).reshape(B, L, G, K),
    });
    const y = attention(queries, keys, values, { scale: K ** -0.5, causal, visible, rules });
    return o(y.reshape(B, L, H * K), { residual });
  };
}

/** down(silu(gate(x)) · up(x)), added to the residual. */
function mlp(w: Weights, { D, F }: TextConfig) {
  const gate = linear(w.at("gate_proj"), F, D);
  const up = linear(w.at("up_proj"), F, D);
  const down = linear(w.at("down_proj"), D, F);
  return (x: Tensor, residual: Tensor): Tensor => down(swiglu(gate(x), up(x)), { residual });
}

/** Attention and the feed-forward block, each on the norm of what it is added to. */
function decoderLayer(w: Weights, config: TextConfig) {
  const { D, rmsNormEps: eps } = config;
  const attend = selfAttention(w.at("self_attn"), config);
  const feed = mlp(w.at("mlp"), config);
  const inputNorm = w.get("input_layernorm.weight", [D]);
  const postNorm = w.get("post_attention_layernorm.weight", [D]);

  /** [B, L, D] → [B, L, D] */
  return (x: Tensor, context: Context, append: Append): Tensor => {
    const y = attend(rmsNorm(x, inputNorm, { eps }), x, context, append);
    return feed(rmsNorm(y, postNorm, { eps }), y);
  };
}

/** What {@link textDecoder}'s function takes besides the embeddings and the context. */
export interface DecoderOptions extends Pick<ForwardOptions, "images" | "rows" | "recompute" | "observe"> {
  /** {@link Append} by layer; by default there are only the new tokens. */
  readonly append?: ((layer: number, fresh: KeysValues) => KeysValues) | undefined;
}

/** The layers and the final norm. */
export function textDecoder(w: Weights, config: TextConfig) {
  const { D, rmsNormEps: eps } = config;
  const layers = Array.from({ length: config.layers }, (_, i) => decoderLayer(w.at("layers").at(i), config));
  const norm = w.get("norm.weight", [D]);

  /** [B, L, D] → [B, L, D], or [rows, D] */
  return (embeddings: Tensor, context: Context, options: DecoderOptions = {}): Tensor => {
    const { images, rows, recompute = false, observe, append = (_, fresh) => fresh } = options;
    let x = embeddings;
    /** Goes on to what `f` makes of x; what it made on the way is freed at once, and x with it. */
    const advance = (f: () => Tensor): void => {
      const before = x;
      x = scope(f);
      if (before !== embeddings && before !== x) before.dispose();
    };

    if (images) advance(() => replaceRows(x, images.rows, images.tokens));
    for (const [i, layer] of layers.entries()) {
      observe?.(`layers.${i}.input`, x);
      advance(() => run(recompute, (x, context) => layer(x, context, (fresh) => append(i, fresh)), x, context));
      observe?.(`layers.${i}`, x);
      const feature = images?.deepstack[i];
      if (feature) advance(() => addToRows(x, images.rows, feature));
    }
    if (rows) advance(() => gatherRows(asRows(x), rows));
    advance(() => rmsNorm(x, norm, { eps }));
    observe?.("norm", x);
    return x;
  };
}

/** Runs a layer, perhaps so that its way back runs it again. The tape then holds the tables, which the caller frees. */
function run(
  recompute: boolean,
  layer: (x: Tensor, context: Context) => Tensor,
  x: Tensor,
  { cos, sin, visible, ...rest }: Context,
): Tensor {
  const again = (x: Tensor, cos: Tensor, sin: Tensor, visible: Tensor | null = null): Tensor =>
    layer(x, { cos, sin, visible, ...rest });
  if (!recompute) return again(x, cos, sin, visible);
  return visible ? checkpoint(again, x, cos, sin, visible) : checkpoint(again, x, cos, sin);
}
