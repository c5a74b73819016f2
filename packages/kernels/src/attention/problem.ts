/** A call of attention as its kernels see it: layout, uniforms, and the chunks that rows of scores are made in. */
import type { Tensor } from "@rot/tensor";
import { emptyTensor } from "@rot/tensor/kernel";
import type { AttentionParams, AttentionRule } from "./options.ts";
import type { Layout } from "./tile.wgsl.ts";

/** What a call is about. */
export interface Call {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly visible: Tensor | undefined;
  readonly params: AttentionParams;
}

/** What an arrangement asks of a problem. */
export interface Cut {
  /** Rows of a tile. */
  readonly rows: Layout["rows"];
  /** What the rows of a chunk and the elements of a row of scores are multiples of. */
  readonly step: number;
  readonly columns: number;
  /** MiB of scores at one time, if the shape lets it be so few. */
  readonly workspace: number;
}

/** A problem as the kernels see it. */
export interface Problem extends Call {
  readonly layout: Layout;
  /** Query rows of a pair, and pairs of a sequence and a key/value head. */
  readonly rows: number;
  readonly pairs: number;
  /** Rows of a chunk, and elements from one row of scores to the next. */
  readonly chunk: number;
  readonly pitch: number;
  readonly uniforms: Readonly<Record<string, number>>;
}

/** Rules come in so many, that fewer kernels are compiled. */
const RULES = 4;

export const up = (n: number, step: number): number => Math.ceil(n / step) * step;

/** Query rows that read one key/value head, and pairs of a sequence and such a head. */
export function rowsAndPairs({ q, k }: Call): readonly [rows: number, pairs: number] {
  const { B, Lq, H } = q.dims("B Lq H _");
  const { G } = k.dims("_ _ G _");
  return [(Lq * H) / G, B * G];
}

export function problemOf(call: Call, cut: Cut): Problem {
  const { q, k, v, visible, params } = call;
  const { B, Lq, H, K } = q.dims("B Lq H K");
  const { Lk, G, W } = v.dims("_ Lk G W");
  const [rows, pairs] = rowsAndPairs(call);
  const pitch = up(Lk, cut.columns);
  const most = Math.floor((cut.workspace * 2 ** 20) / (4 * pitch * pairs) / cut.step) * cut.step;
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
    ...call,
    layout: { rows: cut.rows, visible: visible !== undefined, rules: rules.length },
    rows,
    pairs,
    chunk: Math.min(Math.max(cut.step, most), up(rows, cut.step)),
    pitch,
    uniforms: Object.assign(
      {
        queries: Lq,
        keys: Lk,
        heads: H,
        groups: G,
        repeats: H / G,
        width: K,
        values: W,
        reach: params.causal ? Lk - Lq : Lk,
        step: visible && visible.shape[0] === B && B > 1 ? Lq : 0,
        first: 0,
        rows: 0,
        down: 0,
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

/** All that the products with scores must know of rules is whether there are any. */
export const guarded = (layout: Layout): Layout => ({ ...layout, rules: !layout.visible && layout.rules > 0 ? 1 : 0 });

/** The uniforms of each chunk, with `down`, its tiles of rows. */
export function* chunksOf({ rows, chunk, layout, uniforms }: Problem) {
  for (let first = 0; first < rows; first += chunk) {
    yield { ...uniforms, first, rows: chunk, down: Math.ceil(Math.min(chunk, rows - first) / layout.rows) };
  }
}

/** Room for the scores of a chunk. */
export const strip = ({ q, pairs, chunk, pitch }: Problem, label: string): Tensor =>
  emptyTensor(q.device, { shape: [pairs, chunk, pitch], dtype: "f32" }, label);

/** The result in f32, and ln Σ exp(score) of each query and head, [B, Lq, H]. */
export interface Attended {
  readonly y: Tensor;
  readonly total: Tensor;
}
