/** The two kernels that move elements: read by strides into a whole tensor, write a whole tensor by strides. */
import { bits } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { mergeAxes, print, type Shape, size } from "../shape.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { cast } from "./cast.ts";
import { full } from "./create.ts";

/** Axes that may be left after neighbours have been merged. */
const AXES = 8;

/** Where the elements of a shape lie in another tensor: at `offset + Σ index · stride`, counted in elements. */
export interface Walk {
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
}

const members = Object.fromEntries(
  Array.from(
    { length: AXES },
    (_, d) =>
      [
        [`length${d}`, "u32"],
        [`stride${d}`, "i32"],
      ] as const,
  ).flat(),
) as Record<string, "u32" | "i32">;

/** WGSL: `at` from `i`, over the last `rank` axes. */
const locate = (rank: number): string =>
  Array.from({ length: rank }, (_, k) => rank - 1 - k)
    .map((d) => `at += i32(rest % u.length${d}) * u.stride${d}; rest /= u.length${d};`)
    .join("\n");

const ranks = Array.from({ length: AXES + 1 }, (_, rank) => rank);

function moving(name: string, load: string, store: string) {
  return {
    name,
    uniforms: { n: "u32", offset: "i32", ...members } as Record<string, "u32" | "i32">,
    knobs: { rank: ranks },
    source: (bindings: string, { rank }: { rank: number }) => wgsl`
      ${bindings}
      ${main(64)}
        let i = group * 64u + lane;
        if (i >= u.n) { return; }
        var at = u.offset;
        var rest = i;
        ${locate(rank)}
        store_y(${store}, load_x(${load}));
      }`,
    grid: ({ n }: Record<string, number>) => Math.ceil((n as number) / 64),
  } as const;
}

const read = defineKernel({ ...moving("strided.read", "u32(at)", "i"), inputs: ["x"], outputs: ["y"] });
const write = defineKernel({ ...moving("strided.write", "i", "u32(at)"), inputs: ["x"], outputs: [], updates: ["y"] });

/** The elements of `x` that the walk visits, as a whole tensor of the walk's shape. */
export function stridedRead(x: Tensor, walk: Walk): Tensor {
  const { uniforms, rank } = prepare(walk, "strided.read");
  return read({ x }, { y: { shape: walk.shape, dtype: x.dtype } }, uniforms, { knobs: { rank } }).y;
}

/** Puts every element of `x` where the walk leads in `y`, which is changed in place and has 32-bit elements. */
export function stridedWrite(y: Tensor, x: Tensor, walk: Walk): void {
  if (bits(y.dtype) === 16)
    throw new ShapeError(`strided.write: ${y.dtype} elements share words and cannot be written alone`);
  const { uniforms, rank } = prepare(walk, "strided.write");
  write({ x, y }, {}, uniforms, { knobs: { rank } });
}

/**
 * A tensor of `shape` with the elements of `x` where the walk leads and `value` elsewhere; off the tape. With 0 it is the
 * adjoint of {@link stridedRead}.
 *
 * @param walk  visits no element twice, and has the shape of `x`
 * @returns     [...shape], in the dtype of `x`
 */
export function place(x: Tensor, shape: Shape, walk: Walk, value = 0): Tensor {
  const dtype = bits(x.dtype) === 16 ? "f32" : x.dtype;
  const filled = x.size === size(shape);
  const y = filled ? emptyTensor(x.device, { shape, dtype }, "place") : full(x.device, shape, value, dtype);
  stridedWrite(y, x, walk);
  return cast(y, x.dtype);
}

function prepare({ shape, strides, offset }: Walk, who: string): { uniforms: Record<string, number>; rank: number } {
  const { lengths, steps } = mergeAxes(shape, [strides]);
  if (lengths.length > AXES)
    throw new ShapeError(`${who}: ${print(shape)} has more than ${AXES} axes that cannot be merged`);
  const uniforms: Record<string, number> = { n: size(shape), offset };
  for (let d = 0; d < AXES; d++) {
    uniforms[`length${d}`] = lengths[d] ?? 1;
    uniforms[`stride${d}`] = steps[0]?.[d] ?? 0;
  }
  return { uniforms, rank: lengths.length };
}
