/** The kernel of one optimizer step: a parameter and its state, read and written once. */
import { halfFunctions } from "../half.wgsl.ts";
import { defineKernel, type Scalar } from "../kernel.ts";
import { untaped } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";

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

/** What a step works on. */
export interface Updated<S extends string> {
  readonly parameter: Tensor;
  /** The f32 values of a 16-bit parameter, null otherwise. */
  readonly master: Tensor | null;
  readonly state: Readonly<Record<S, Tensor>>;
}

/** Declares the kernels of an update: for f32, one or four elements to a lane; for 16-bit floats, the two of a word. */
export function defineUpdate<const S extends string, const U extends Readonly<Record<string, Scalar>>>({
  name,
  state,
  uniforms,
  body,
}: UpdateSpec<S, U>) {
  const names: readonly string[] = state;
  const declared = { n: "u32", words: "u32", ...uniforms } as Readonly<Record<string, Scalar>>;
  /** `update(i) -> T`: changes element i where it is kept in f32 and gives its new value. */
  const update = (kept: string, type: string): string => `
    alias T = ${type};
    fn update(i: u32) -> T {
      let g = load_g(i);
      var p = load_${kept}(i);
      ${names.map((one) => `var ${one} = load_${one}(i);`).join(" ")}
      ${body}
      store_${kept}(i, p);
      ${names.map((one) => `store_${one}(i, ${one});`).join(" ")}
      return p;
    }`;

  const single = defineKernel({
    name,
    inputs: ["g"],
    outputs: [],
    updates: ["p", ...names],
    uniforms: declared,
    knobs: { form: ["scalar", "vec4"] },
    forms: ({ form }) => Object.fromEntries(["g", "p", ...names].map((one) => [one, form])),
    source: (bindings, { form }) => wgsl`
      ${bindings}
      ${update("p", form === "vec4" ? "vec4f" : "f32")}
      ${main(64)}
        let i = group * 64u + lane;
        if (i < u.words) { _ = update(i); }
      }`,
    grid: ({ words }) => Math.ceil((words as number) / 64),
  });

  const half = defineKernel({
    name,
    inputs: ["g"],
    outputs: [],
    updates: ["p", "master", ...names],
    uniforms: declared,
    knobs: { dtype: ["bf16", "f16"] },
    forms: () => ({ p: "words" }),
    source: (bindings, { dtype }) => wgsl`
      ${bindings}
      ${halfFunctions[dtype]}
      ${update("master", "f32")}
      ${main(64)}
        let i = group * 64u + lane;
        if (i >= u.words) { return; }
        var word = half(update(2u * i));
        if (2u * i + 1u < u.n) { word |= half(update(2u * i + 1u)) << 16u; }
        store_p(i, word);
      }`,
    grid: ({ words }) => Math.ceil((words as number) / 64),
  });

  return (
    { parameter: p, master, state: tensors }: Updated<S>,
    gradient: Tensor,
    numbers: { readonly [N in keyof U]: number },
  ): void =>
    untaped(() => {
      const n = p.size;
      if (master) {
        const dtype = p.dtype as "bf16" | "f16";
        const all = { g: gradient, p, master, ...(tensors as Record<string, Tensor>) };
        half(all, {}, { n, words: Math.ceil(n / 2), ...numbers }, { knobs: { dtype } });
      } else {
        const wide = n % 4 === 0;
        const all = { g: gradient, p, ...(tensors as Record<string, Tensor>) };
        const knobs = { form: wide ? ("vec4" as const) : ("scalar" as const) };
        single(all, {}, { n, words: wide ? n / 4 : n, ...numbers }, { knobs });
      }
    });
}
