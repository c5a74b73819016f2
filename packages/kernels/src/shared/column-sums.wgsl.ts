/** Sums over the rows of a matrix: the gradient of whatever all rows share. In two rounds, always in the same order. */
import { cast, type DType, sum, type Tensor } from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import { busyLanes } from "./defaults.ts";
import { family } from "./family.ts";
import { isWide, rowsOf } from "./rows.ts";
import { vectors } from "./rows.wgsl.ts";

/** Rows that one lane should at least go over before a second round pays. */
const LEAST_ROWS = 16;

/** What to sum. */
export interface ColumnSumsSpec<I extends string, R extends string, S extends string> {
  readonly name: string;
  /** Tensors [..., D]. */
  readonly inputs: readonly I[];
  /** Tensors with one f32 for each row. */
  readonly perRow: readonly R[];
  /** For each sum its term, in WGSL over the names of the tensors. */
  readonly sums: Readonly<Record<S, string>>;
}

/**
 * Makes a function that sums terms over the rows of tensors that are not empty.
 *
 * @returns  a function from tensors to the sums, each [D]
 */
export function columnSums<const I extends string, const R extends string, const S extends string>(
  spec: ColumnSumsSpec<I, R, S>,
): (tensors: Readonly<Record<I | R, Tensor>>, dtypes: Readonly<Record<S, DType>>) => Record<S, Tensor> {
  const names = Object.keys(spec.sums) as S[];
  const kernels = family((wide) =>
    defineKernel({
      name: spec.name,
      inputs: [...spec.inputs, ...spec.perRow],
      outputs: names,
      uniforms: { rows: "u32", width: "u32", chunks: "u32", step: "u32" },
      knobs: {},
      forms: () => (wide ? Object.fromEntries([...spec.inputs, ...names].map((name) => [name, "vec4"] as const)) : {}),
      source: (bindings) => wgsl`
        ${bindings}
        ${vectors(wide)}
        ${main(64)}
          let columns = u.width / ${wide ? 4 : 1}u;
          let i = group * 64u + lane;
          if (i >= columns * u.chunks) { return; }
          let column = i % columns;
          let first = i / columns * u.step;
          let end = min(first + u.step, u.rows);
          ${names.map((name) => `var total_${name} = V();`).join(" ")}
          for (var row = first; row < end; row++) {
            let at = row * columns + column;
            ${spec.inputs.map((name) => `let ${name} = load_${name}(at);`).join(" ")}
            ${spec.perRow.map((name) => `let ${name} = load_${name}(row);`).join(" ")}
            ${names.map((name) => `total_${name} += ${spec.sums[name]};`).join(" ")}
          }
          ${names.map((name) => `store_${name}(i, total_${name});`).join(" ")}
        }`,
      grid: ({ width, chunks }) => Math.ceil((width * chunks) / (wide ? 256 : 64)),
    }),
  );

  return (tensors, dtypes) => {
    const { device } = tensors[spec.inputs[0] as I];
    const { rows, width } = rowsOf(tensors[spec.inputs[0] as I]);
    const out = {} as Record<S, Tensor>;
    const wide = isWide(width);
    const columns = wide ? width / 4 : width;
    const wished = Math.min(Math.ceil(busyLanes(device) / columns), Math.ceil(rows / LEAST_ROWS));
    const step = Math.ceil(rows / wished);
    const chunks = Math.ceil(rows / step);
    const shapes = {} as Record<S, { shape: number[]; dtype: DType }>;
    for (const name of names) shapes[name] = { shape: [chunks, width], dtype: "f32" };
    const parts = kernels(wide)(tensors, shapes, { rows, width, chunks, step });
    for (const name of names) out[name] = cast(sum(parts[name], 0), dtypes[name]);
    return out;
  };
}
