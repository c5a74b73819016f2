/** The kernels of an optimizer's step: some parameters and their state, read and written once. */
import { windowsOf } from "../bindings.ts";
import { halfFunctions } from "../half.wgsl.ts";
import { type CallableKernel, defineKernel, type Forms, type Scalar } from "../kernel.ts";
import { elementKnobs, elementsOf, openElements } from "../ops/elements.wgsl.ts";
import { untaped } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";

/** How many parameters one dispatch may change. Few sizes are few kernels to compile. */
const SIZES = [4, 2, 1];

/** How one element of a parameter is changed. */
export interface UpdateSpec<S extends string, U extends Readonly<Record<string, Scalar>>> {
  /** `optimizer.step`. */
  readonly name: string;
  /** The f32 tensors, each as large as the parameter, that are carried from step to step. */
  readonly state: readonly S[];
  readonly uniforms: U;
  /** WGSL statements over `T`, a scalar or a vector: they read the gradient `g` and change the parameter `p` and the state. */
  readonly body: string;
}

/** What a step works on: one parameter. */
export interface Updated<S extends string> {
  readonly parameter: Tensor;
  /** The f32 values of a 16-bit parameter, null otherwise. */
  readonly master: Tensor | null;
  readonly state: Readonly<Record<S, Tensor>>;
}

/** One parameter and its gradient. */
export interface Pair<U> {
  readonly trained: U;
  readonly gradient: Tensor;
}

/** What a lane works on: one element or four of a parameter kept in f32, or the word of two 16-bit floats. */
type Grain = "scalar" | "vec4" | "bf16" | "f16";

function grainOf({ dtype, size }: Tensor): Grain {
  if (dtype === "bf16" || dtype === "f16") return dtype;
  return size % 4 === 0 ? "vec4" : "scalar";
}

const lanesOf = (n: number, grain: Grain): number => Math.ceil(n / (grain === "scalar" ? 1 : grain === "vec4" ? 4 : 2));

const indices = (count: number): number[] => Array.from({ length: count }, (_, k) => k);

/** Declares an update: a function that changes parameters by their gradients, several of one grain in a dispatch. */
export function defineUpdate<const S extends string, const U extends Readonly<Record<string, Scalar>>>({
  name,
  state,
  uniforms,
  body,
}: UpdateSpec<S, U>) {
  const names: readonly string[] = state;

  /** `update_k(i) -> T`: changes element i of parameter k where it is kept in f32, and gives its new value. */
  const update = (k: number, kept: string): string => `
    fn update_${k}(i: u32) -> T {
      let g = load_g${k}(i);
      var p = load_${kept}${k}(i);
      ${names.map((one) => `var ${one} = load_${one}${k}(i);`).join(" ")}
      ${body}
      store_${kept}${k}(i, p);
      ${names.map((one) => `store_${one}${k}(i, ${one});`).join(" ")}
      return p;
    }`;

  /** What a lane does of parameter k, whose lanes begin at 0. */
  const lane = (k: number, isHalf: boolean): string =>
    isHalf
      ? `var word = half(update_${k}(2u * i));
        if (2u * i + 1u < u.n${k}) { word |= half(update_${k}(2u * i + 1u)) << 16u; }
        store_p${k}(i, word);`
      : `_ = update_${k}(i);`;

  function build(count: number, grain: Grain) {
    const isHalf = grain === "bf16" || grain === "f16";
    const kept = isHalf ? ["p", "master", ...names] : ["p", ...names];
    const all = indices(count);
    const forms: Record<string, "words" | "scalar" | "vec4"> = {};
    for (const k of all) {
      for (const one of ["g", ...kept]) forms[one + k] = isHalf ? (one === "p" ? "words" : "scalar") : grain;
    }
    const counts = all.flatMap((k) => [`n${k}`, `lanes${k}`]);
    const declared = { ...Object.fromEntries(counts.map((one) => [one, "u32"])), ...uniforms };
    return defineKernel({
      name,
      inputs: all.map((k) => `g${k}`),
      outputs: [],
      updates: all.flatMap((k) => kept.map((one) => one + k)),
      uniforms: declared as Readonly<Record<string, Scalar>>,
      knobs: elementKnobs,
      prefers: elementsOf,
      forms: (): Forms => forms,
      source: (bindings, { each }) => wgsl`
        ${bindings}
        alias T = ${grain === "vec4" ? "vec4f" : "f32"};
        ${isHalf ? halfFunctions[grain] : ""}
        ${all.map((k) => update(k, isHalf ? "master" : "p")).join("")}
        ${main(64)}
          var own = group;
          ${all
            .map(
              (k) => `
          if (own < (u.lanes${k} + ${64 * each - 1}u) / ${64 * each}u) {
            ${openElements(`u.lanes${k}`, each, "own")} ${lane(k, isHalf)} }
            return;
          }
          own -= (u.lanes${k} + ${64 * each - 1}u) / ${64 * each}u;`,
            )
            .join("")}
        }`,
      grid: (given, { each }) => all.reduce((sum, k) => sum + Math.ceil((given[`lanes${k}`] as number) / 64 / each), 0),
    });
  }

  const kernels = new Map<
    string,
    CallableKernel<string, never, string, Readonly<Record<string, Scalar>>, typeof elementKnobs>
  >();

  return (pairs: readonly Pair<Updated<S>>[], numbers: { readonly [N in keyof U]: number }): void =>
    untaped(() => {
      for (const run of runs(pairs.filter(({ gradient }) => gradient.size > 0))) {
        const grain = grainOf((run[0] as Pair<Updated<S>>).trained.parameter);
        const key = `${run.length} ${grain}`;
        let kernel = kernels.get(key);
        if (!kernel) kernels.set(key, (kernel = build(run.length, grain)));
        const tensors: Record<string, Tensor> = {};
        const counts: Record<string, number> = {};
        for (const [k, pair] of run.entries()) {
          for (const [one, tensor] of bound(pair)) tensors[one + k] = tensor;
          counts[`n${k}`] = pair.gradient.size;
          counts[`lanes${k}`] = lanesOf(pair.gradient.size, grain);
        }
        kernel(tensors, {}, { ...counts, ...numbers });
      }
    });
}

/** The tensors that a parameter's update binds. */
const bound = ({ trained, gradient }: Pair<Updated<string>>): (readonly [string, Tensor])[] => {
  const { parameter, master, state } = trained;
  return [
    ["g", gradient],
    ["p", parameter],
    ...(master ? [["master", master] as const] : []),
    ...Object.entries(state),
  ];
};

/**
 * Cuts a list into runs of one of {@link SIZES}, in order: parameters of one grain and one dtype of gradients, whose
 * bindings the adapter allows, and none of them the gradient of another, which a dispatch may not both read and write.
 */
function* runs<P extends Pair<Updated<string>>>(pairs: readonly P[]): Generator<P[]> {
  const kindOf = ({ trained: { parameter }, gradient }: P): string => `${grainOf(parameter)} ${gradient.dtype}`;
  for (let at = 0; at < pairs.length;) {
    const first = pairs[at] as P;
    const { device } = first.trained.parameter;
    const { maxStorageBuffersPerShaderStage: most } = device.limits;
    const read = new Set([first.gradient.storage]);
    const written = new Set([first.trained.parameter.storage]);
    let bindings = 0;
    let end = at;
    for (const pair of pairs.slice(at, at + (SIZES[0] as number))) {
      const { gradient, trained } = pair;
      bindings += bound(pair).reduce((sum, [, { bytes }]) => sum + windowsOf(bytes, device.limits), 0);
      const apart = !written.has(gradient.storage) && !read.has(trained.parameter.storage);
      const joins = kindOf(pair) === kindOf(first) && gradient.device === device && bindings <= most && apart;
      if (end > at && !joins) break;
      read.add(gradient.storage);
      written.add(trained.parameter.storage);
      end++;
    }
    const size = SIZES.find((size) => size <= end - at) as number;
    yield pairs.slice(at, at + size);
    at += size;
  }
}
