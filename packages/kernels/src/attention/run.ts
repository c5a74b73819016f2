/**
 * Attention and its gradients on the device. Scores exist for some query rows at a time, in a buffer of bounded size, and
 * each chunk of rows goes through the products one after the other.
 */
import { binary, cast, type DType, sum, type Tensor, zeros } from "@rot/tensor";
import { emptyTensor } from "@rot/tensor/kernel";
import { busyLanes } from "../shared/defaults.ts";
import { gatherKernel, normaliseKernel, scatterKernel, scoresKernel, settingOn } from "./kernels.ts";
import type { AttentionParams, AttentionRule } from "./options.ts";
import { spansOf } from "./rows.wgsl.ts";
import type { Layout } from "./tile.wgsl.ts";

/** Bytes of scores at one time, if the shape lets it be so few. */
const WORKSPACE = 8 * 2 ** 20;
/** Rows of a tile of keys, and what chunks are multiples of. */
const TILE = 16;
/** Rules come in so many, that fewer kernels are compiled. */
const RULES = 4;
/** Query rows up to which the keys may be cut into parts, and the keys of a part. */
const FEW_ROWS = 64;
const LEAST_PART = 256;

/** A problem as the kernels see it. */
interface Problem {
  readonly layout: Layout;
  readonly visible: Tensor | undefined;
  /** Query rows of a pair, and pairs of a sequence and a key/value head. */
  readonly rows: number;
  readonly pairs: number;
  /** Rows of a chunk, and elements from one row of scores to the next. */
  readonly chunk: number;
  readonly pitch: number;
  readonly uniforms: Readonly<Record<string, number>>;
}

/** All that the products with scores must know of rules is whether there are any. */
const guarded = (layout: Layout): Layout => ({ ...layout, rules: !layout.visible && layout.rules > 0 ? 1 : 0 });

const up = (n: number, step: number): number => Math.ceil(n / step) * step;

function problemOf(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | undefined, params: AttentionParams): Problem {
  const { B, Lq, H, K } = q.dims("B Lq H K");
  const { Lk, G, W } = v.dims("_ Lk G W");
  const [repeats, pairs, pitch] = [H / G, B * G, up(Lk, 4)];
  const rows = Lq * repeats;
  const most = Math.max(TILE, Math.floor(WORKSPACE / (4 * pitch * pairs) / TILE) * TILE);
  const nowhere: AttentionRule = { queries: [0, 0], keys: [0, 0], bias: 0 };
  const padding = Array<AttentionRule>(up(params.rules.length, RULES) - params.rules.length).fill(nowhere);
  const rules = [...params.rules, ...padding].map(({ queries, keys, bias, sequence }, r) => ({
    [`from_${r}`]: queries[0],
    [`to_${r}`]: queries[1],
    [`begin_${r}`]: keys[0],
    [`end_${r}`]: keys[1],
    [`start_${r}`]: sequence ?? 0,
    [`stop_${r}`]: sequence === undefined ? B : sequence + 1,
    [`bias_${r}`]: Math.max(bias, -1e37),
  }));
  return {
    layout: {
      rows: rows <= 8 || settingOn(k.device).arrangement === "own" ? 8 : 16,
      visible: visible !== undefined,
      rules: rules.length,
    },
    visible,
    rows,
    pairs,
    chunk: Math.min(most, up(rows, TILE)),
    pitch,
    uniforms: Object.assign(
      {
        queries: Lq,
        keys: Lk,
        heads: H,
        groups: G,
        repeats,
        width: K,
        values: W,
        reach: params.causal ? Lk - Lq : Lk,
        step: visible && visible.shape[0] === B && B > 1 ? Lq : 0,
        pitch,
        pairs,
        parts: 1,
        part: pitch,
        stride: 0,
        columns: 0,
        lanes: k.device.subgroupSize,
        scale: params.scale,
      },
      ...rules,
    ),
  };
}

/** The uniforms of each chunk, with `down`, its tiles of rows. */
function* chunksOf({ rows, chunk, layout, uniforms }: Problem) {
  for (let first = 0; first < rows; first += chunk) {
    yield { ...uniforms, first, rows: chunk, down: Math.ceil(Math.min(chunk, rows - first) / layout.rows) };
  }
}

const strip = ({ pairs, chunk, pitch }: Problem, like: Tensor, label: string): Tensor =>
  emptyTensor(like.device, { shape: [pairs, chunk, pitch], dtype: "f32" }, label);

/** The result in f32, and ln Σ exp(score) of each query and head, [B, Lq, H]. */
export function attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | undefined, params: AttentionParams) {
  const { device } = q;
  const { B, Lq, H } = q.dims("B Lq H _");
  const { Lk, W } = v.dims("_ Lk _ W");
  const problem = problemOf(q, k, v, visible, params);
  const { layout, rows, pairs } = problem;
  const plain = { ...layout, rules: 0 };
  const p = strip(problem, q, "attention.scores");
  const parts =
    rows > FEW_ROWS ? 1 : Math.max(1, Math.min(Math.ceil(busyLanes(device) / (pairs * W)), Math.ceil(Lk / LEAST_PART)));
  const y = emptyTensor(device, { shape: [parts, B, Lq, H, W], dtype: "f32" }, "attention");
  const total = emptyTensor(device, { shape: [B, Lq, H], dtype: "f32" }, "attention.total");
  for (const chunk of chunksOf(problem)) {
    scoresKernel(layout, "score")({ a: q, b: k, visible, y: p }, { ...chunk, columns: problem.pitch });
    normaliseKernel(plain)({ visible, p, total }, chunk);
    gatherKernel(guarded(layout))(
      { p, b: v, visible, y },
      { ...chunk, columns: W, parts, part: up(Math.ceil(Lk / parts), 4), stride: y.size / parts },
    );
  }
  return { y: parts === 1 ? y.alias([B, Lq, H, W]) : sum(y, 0), total };
}

/** The cotangents of q, k and v; null for those that are not wanted. */
export function attendBack(
  [q, k, v, visible]: readonly [Tensor, Tensor, Tensor, ...Tensor[]],
  params: AttentionParams,
  y: Tensor,
  total: Tensor,
  dy: Tensor,
  needs: readonly boolean[],
): readonly [Tensor | null, Tensor | null, Tensor | null] {
  const { device } = q;
  const problem = problemOf(q, k, v, visible, params);
  const { layout, uniforms } = problem;
  const [K, W] = [uniforms["width"], uniforms["values"]] as [number, number];
  const slopes = needs[0] || needs[1];
  const p = strip(problem, q, "attention.probabilities");
  const ds = slopes ? strip(problem, q, "attention.slopes") : null;
  const delta = slopes ? sum(binary.mul(cast(dy, "f32"), cast(y, "f32")), -1) : null;
  const dq = needs[0] ? emptyTensor(device, { shape: q.shape, dtype: "f32" }, "attention.dq") : null;
  const dk = needs[1] ? zeros(device, k.shape) : null;
  const dv = needs[2] ? zeros(device, v.shape) : null;
  const keyTiles = Math.ceil((uniforms["keys"] as number) / TILE);
  const spans = visible && (dk || dv) ? keySpans(visible, keyTiles, problem) : undefined;
  const toKeys = scatterKernel({ rows: TILE, visible: spans !== undefined, rules: 0 });

  for (const chunk of chunksOf(problem)) {
    scoresKernel(layout, "probability")({ a: q, b: k, visible, total, y: p }, { ...chunk, columns: problem.pitch });
    if (dv) toKeys({ p, b: dy, spans, y: dv }, { ...chunk, columns: W, down: keyTiles });
    if (!ds || !delta) continue;
    scoresKernel({ ...layout, rules: 0 }, "slope")(
      { a: dy, b: v, visible, total: delta, p, y: ds },
      { ...chunk, columns: problem.pitch },
    );
    if (dk) toKeys({ p: ds, b: q, spans, y: dk }, { ...chunk, columns: K, down: keyTiles });
    if (dq) {
      gatherKernel(guarded(layout))({ p: ds, b: k, visible, y: dq }, { ...chunk, columns: K });
    }
  }
  const give = (d: Tensor | null, dtype: DType): Tensor | null => d && cast(d, dtype);
  return [give(dq, q.dtype), give(dk, k.dtype), give(dv, v.dtype)];
}

function keySpans(visible: Tensor, down: number, { uniforms }: Problem): Tensor {
  const sequences = visible.shape[0] as number;
  const spans = { shape: [sequences, down, 2], dtype: "i32" } as const;
  return spansOf({ visible }, { spans }, { ...uniforms, first: 0, rows: 0, pairs: sequences, down }).spans;
}
