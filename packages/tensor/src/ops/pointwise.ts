/** The one kernel template of all elementwise ops: a WGSL expression at every element, with broadcasting. */
import type { Form } from "../bindings.ts";
import { type DType, isFloat, scalarType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { type CallableKernel, defineKernel } from "../kernel.ts";
import { broadcast, broadcastStrides, mergeAxes, print, sameShape, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { elementKnobs, elementsOf, openElements } from "./elements.wgsl.ts";

/** Axes that broadcasting may leave after neighbours with the same pattern are merged. */
const AXES = 6;
const axes = Array.from({ length: AXES }, (_, i) => i);

/** How a pointwise kernel is declared. */
export interface PointwiseSpec<I extends string> {
  readonly name: string;
  readonly inputs: readonly I[];
  /**
   * The value of `y`, in WGSL over the names of the inputs and constants, for scalars and vectors alike. `T` is the
   * computed type, so a number that must match a vector is written `T(0.0)`; `is_nan(x)` tells NaN where `x != x` may not,
   * and `infinity()` and `not_a_number()` are what WGSL cannot write.
   */
  readonly expression: string;
  /** Numbers given at each call, at most two. They are f32 on the way, so integers are exact up to 2²⁴. */
  readonly constants?: readonly string[];
  /** WGSL functions the expression calls. */
  readonly helpers?: string;
  /** True when the expression holds for scalars only. */
  readonly scalar?: boolean;
  /** What is computed in: the inputs are converted to it. By default the type of each input stands. */
  readonly compute?: "f32" | "i32" | "u32";
}

/** Runs a pointwise kernel. The result has the broadcast shape of the inputs. */
export type Pointwise<I extends string> = (
  tensors: Readonly<Record<I, Tensor>>,
  dtype: DType,
  ...constants: number[]
) => Tensor;

/** Declares a pointwise kernel. */
export function pointwise<const I extends string>(spec: PointwiseSpec<I>): Pointwise<I> {
  const kernels = new Map<
    string,
    CallableKernel<string, "y", never, Record<string, "u32" | "f32">, typeof elementKnobs>
  >();
  const bound = spec.inputs.map((name) => `in_${name}`);

  return (tensors, dtype, p = 0, q = 0) => {
    const list = spec.inputs.map((name) => tensors[name]);
    let { shape } = list[0] as Tensor;
    let same = true;
    for (const t of list) {
      if (sameShape(shape, t.shape)) continue;
      shape = broadcast(shape, t.shape, spec.name);
      same = false;
    }
    const n = size(shape);
    const plan = same ? null : layout(shape, list, spec.name);
    const last = plan?.lengths.at(-1) ?? n;
    // Four at a time wherever the store is a whole vector, and every load is one or a single element for all four.
    const wide = last % 4 === 0 && n > 0 && !spec.scalar;
    const single = list.map((_, i) => wide && plan?.steps[i]?.at(-1) === 0);

    let key = `${wide} ${plan?.lengths.length} ${scalarType(dtype)}`;
    for (const [i, t] of list.entries()) key += ` ${scalarType(t.dtype)} ${single[i]}`;
    let kernel = kernels.get(key);
    if (!kernel) {
      const types = list.map((t) => scalarType(t.dtype));
      kernel = build(spec, types, scalarType(dtype), wide, single, plan?.lengths.length ?? 0);
      kernels.set(key, kernel);
    }
    const inputs: Record<string, Tensor> = {};
    for (const [i, name] of bound.entries()) inputs[name] = list[i] as Tensor;
    const uniforms: Record<string, number> = { n: wide ? n / 4 : n, p, q };
    plan?.lengths.forEach((length, d) => {
      const isLast = d === plan.lengths.length - 1;
      uniforms[`length${d}`] = wide && isLast ? length / 4 : length;
      for (const [i, name] of spec.inputs.entries()) {
        const step = plan.steps[i]?.[d] ?? 0;
        uniforms[`${name}${d}`] = wide && !single[i] && !isLast ? step / 4 : step;
      }
    });
    return kernel(inputs, { y: { shape, dtype } }, uniforms).y;
  };
}

/** The shape with neighbouring axes merged where every operand allows it, and each operand's strides over it. */
function layout(shape: Shape, list: readonly Tensor[], who: string): { lengths: number[]; steps: number[][] } {
  const merged = mergeAxes(
    shape,
    list.map((t) => broadcastStrides(t.shape, shape)),
  );
  if (merged.lengths.length > AXES) {
    throw new ShapeError(
      `${who}: broadcasting to ${print(shape)} alternates over more than ${AXES} axes; reshape or expand first`,
    );
  }
  return merged;
}

/** @param single  inputs of which one element serves for all four of a vector */
function build(
  spec: PointwiseSpec<string>,
  types: readonly string[],
  out: string,
  wide: boolean,
  single: readonly boolean[],
  rank: number,
) {
  const { inputs, expression, constants = [], helpers = "", compute } = spec;
  const computed = compute ?? types[0] ?? "f32";
  const vector = (type: string): string => (wide ? `vec4<${type}>` : type);
  const dimensions = axes.slice(0, rank);
  const uniforms: Record<string, "u32" | "f32"> = { n: "u32", p: "f32", q: "f32" };
  for (const d of dimensions) {
    uniforms[`length${d}`] = "u32";
    for (const name of inputs) uniforms[`${name}${d}`] = "u32";
  }
  // From the last axis inward: rest holds what is left of the index.
  const index = dimensions
    .toReversed()
    .map(
      (d) =>
        `{ let c = rest % u.length${d}; rest /= u.length${d}; ${inputs.map((name) => `at_${name} += c * u.${name}${d};`).join(" ")} }`,
    )
    .join("\n");
  const loads = inputs.map((name, i) => {
    const value = `load_in_${name}(${rank ? `at_${name}` : "i"})`;
    const converts = single[i] || (compute && compute !== types[i]);
    return `let ${name} = ${converts ? `${vector(compute ?? (types[i] as string))}(${value})` : value};`;
  });
  const forms: Record<string, Form> = wide ? { y: "vec4" } : {};
  for (const [i, name] of inputs.entries()) if (wide && !single[i]) forms[`in_${name}`] = "vec4";
  return defineKernel({
    name: spec.name,
    inputs: inputs.map((name) => `in_${name}`),
    outputs: ["y"],
    uniforms,
    knobs: elementKnobs,
    prefers: elementsOf,
    forms: () => forms,
    source: (bindings, { each }) => wgsl`
        ${bindings}
        alias T = ${vector(computed)};
        alias Y = ${vector(out)};
        alias C = ${vector("u32")};
        alias F = ${vector("f32")};
        fn infinity() -> F { return F(bitcast<f32>(0x7f800000u | min(u.n, 0u))); }
        fn not_a_number() -> F { return F(bitcast<f32>(0x7fc00000u | min(u.n, 0u))); }
        fn is_nan(x: ${vector("f32")}) -> ${vector("bool")} {
          return (bitcast<${vector("u32")}>(x) & ${vector("u32")}(0x7fffffffu)) > ${vector("u32")}(0x7f800000u);
        }
        ${helpers}
        ${main(64)}
          ${openElements("u.n", each)}
          ${rank ? `var rest = i; ${inputs.map((name) => `var at_${name} = 0u;`).join(" ")}` : ""}
          ${index}
          ${loads.join(" ")}
          ${constants.map((name, k) => `let ${name} = T(${computed}(u.${"pq"[k] as string}));`).join(" ")}
          store_y(i, Y(${expression}));
          }
        }`,
    grid: ({ n }, { each }) => Math.ceil((n as number) / 64 / each),
  });
}

/** The dtype a float function of `x` gives: its own if it is a float, f32 otherwise. */
export const floating = (dtype: DType): DType => (isFloat(dtype) ? dtype : "f32");
