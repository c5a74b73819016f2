/** The kernel of a program: its values at every element, with broadcasting of what it reads. */
import { broadcast, type DType, print, type Shape, ShapeError, size, type Tensor } from "@rot/tensor";
import { broadcastStrides, type CallableKernel, defineKernel, main, mergeAxes, wgsl } from "@rot/tensor/kernel";
import type { Program } from "./program.ts";

/** Axes that broadcasting may leave after neighbours with the same pattern are merged. */
const AXES = 6;

type Elementwise = CallableKernel<string, string, never, Record<string, "u32">, Record<never, never>>;

/** The shape that all broadcast to. */
export const commonShape = (tensors: readonly { readonly shape: Shape }[]): Shape =>
  tensors.map(({ shape }) => shape).reduce((a, b) => broadcast(a, b, "fuse"));

/**
 * Makes a function that runs a program, once for each call.
 *
 * @param reads  names of the tensors that it reads
 * @returns      a function from these tensors to the results, each of the common shape, in the given dtypes
 */
export function elementwise(
  name: string,
  reads: readonly string[],
  program: Program,
): (tensors: readonly Tensor[], shape: Shape, dtypes: readonly DType[]) => Tensor[] {
  const kernels = new Map<string, Elementwise>();
  const outputs = program.results.map((_, i) => `out${i}`);
  return (tensors, shape, dtypes) => {
    const { lengths, steps } = mergeAxes(
      shape,
      tensors.map((tensor) => broadcastStrides(tensor.shape, shape)),
    );
    if (lengths.length > AXES) {
      throw new ShapeError(`fuse: broadcasting to ${print(shape)} alternates over more than ${AXES} axes`);
    }
    const n = size(shape);
    // Four at a time where every load is a whole vector, or a single element for all four.
    const wide = !program.scalar && n > 0 && (lengths.at(-1) ?? 1) % 4 === 0;
    const single = steps.map((own) => wide && own.at(-1) === 0);
    const bools = tensors.map(({ dtype }) => dtype === "bool");
    const key = `${wide} ${lengths.length} ${single.join(" ")} ${bools.join(" ")}`;
    let kernel = kernels.get(key);
    if (!kernel)
      kernels.set(key, (kernel = build(name, reads, program, { wide, single, bools, rank: lengths.length })));

    const uniforms: Record<string, number> = { n: wide ? n / 4 : n };
    for (const [d, length] of lengths.entries()) {
      const isLast = d === lengths.length - 1;
      uniforms[`length${d}`] = wide && isLast ? length / 4 : length;
      for (const [i, read] of reads.entries()) {
        const step = steps[i]?.[d] as number;
        uniforms[`${read}_${d}`] = wide && !single[i] && !isLast ? step / 4 : step;
      }
    }
    const made = kernel(
      Object.fromEntries(reads.map((read, i) => [read, tensors[i] as Tensor])),
      Object.fromEntries(outputs.map((output, i) => [output, { shape, dtype: dtypes[i] as DType }])),
      uniforms,
      { device: (tensors[0] as Tensor).device },
    );
    return outputs.map((output) => made[output] as Tensor);
  };
}

/** What a kernel is compiled for. */
interface Layout {
  readonly wide: boolean;
  /** Of which tensors one element serves for all four of a vector. */
  readonly single: readonly boolean[];
  readonly bools: readonly boolean[];
  readonly rank: number;
}

function build(name: string, reads: readonly string[], program: Program, layout: Layout): Elementwise {
  const { wide, single, bools, rank } = layout;
  const { lines, results, helpers } = program;
  const axes = Array.from({ length: rank }, (_, d) => d);
  const uniforms: Record<string, "u32"> = { n: "u32" };
  for (const d of axes)
    for (const one of ["length", ...reads.map((read) => `${read}_`)]) uniforms[`${one}${d}`] = "u32";
  const vectors = [...reads.filter((_, i) => !single[i]), ...results.map((_, i) => `out${i}`)];
  const forms = wide ? Object.fromEntries(vectors.map((one) => [one, "vec4"] as const)) : {};
  // From the last axis inward: rest holds what is left of the index.
  const index = axes
    .toReversed()
    .map(
      (d) =>
        `{ let c = rest % u.length${d}; rest /= u.length${d}; ${reads.map((read) => `at_${read} += c * u.${read}_${d};`).join(" ")} }`,
    );
  const [T, C] = wide ? ["vec4f", "vec4u"] : ["f32", "u32"];
  return defineKernel({
    name,
    inputs: reads,
    outputs: results.map((_, i) => `out${i}`),
    uniforms,
    knobs: {},
    forms: () => forms,
    source: (bindings) => wgsl`
      ${bindings}
      alias T = ${T};
      alias C = ${C};
      fn infinity() -> T { return T(bitcast<f32>(0x7f800000u | min(u.n, 0u))); }
      fn not_a_number() -> T { return T(bitcast<f32>(0x7fc00000u | min(u.n, 0u))); }
      fn is_nan(x: T) -> ${wide ? "vec4<bool>" : "bool"} { return (bitcast<C>(x) & C(0x7fffffffu)) > C(0x7f800000u); }
      ${helpers}
      ${main(64)}
        let i = group * 64u + lane;
        if (i >= u.n) { return; }
        var rest = i;
        ${reads.map((read) => `var at_${read} = 0u;`).join(" ")}
        ${index.join("\n")}
        ${reads
          .map((read, i) => {
            const value = `load_${read}(at_${read})`;
            return `let ${read === "dy" ? read : read.replace("x", "in")} = ${single[i] || bools[i] ? `T(${value})` : value};`;
          })
          .join(" ")}
        ${lines.join("\n")}
        ${results.map((result, i) => `store_out${i}(i, ${result});`).join(" ")}
      }`,
    grid: ({ n }) => Math.ceil((n as number) / 64),
  });
}
