/** Clipping by the global norm, on the device: nothing is read back and nothing waits. */
import { windowsOf } from "../bindings.ts";
import { bits } from "../dtype.ts";
import { UsageError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { halfFunctions, halvesOfWord } from "../half.wgsl.ts";
import { type CallableKernel, defineKernel, type Knobs } from "../kernel.ts";
import { scope } from "../scope.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { firstOverlap } from "./overlap.ts";

/** Workgroups that all gradients together are spread over, unless each would get less than {@link LEAST} elements. */
const WORKGROUPS = 1024;
const LEAST = 1024;
/** How many gradients one dispatch may take. Few sizes are few kernels to compile. */
const SIZES = [8, 4, 2, 1];

type Many<K extends Knobs> = CallableKernel<string, never, string, Record<string, "u32">, K>;

const indices = (count: number): number[] => Array.from({ length: count }, (_, k) => k);
const names = (count: number): string[] => indices(count).map((k) => `g${k}`);

/** `n0`, `n1`, …: the elements or words of each tensor; `step`: those of a workgroup; `first`: where its results begin. */
const uniforms = (count: number): Record<string, "u32"> =>
  Object.fromEntries([...names(count).map((_, k) => `n${k}`), "step", "first"].map((name) => [name, "u32"]));

const groupsOf = (n: number, step: number): number => Math.ceil(n / step);
const grid =
  (count: number) =>
  (given: Readonly<Record<string, number>>): number =>
    indices(count).reduce((sum, k) => sum + groupsOf(given[`n${k}`] as number, given["step"] as number), 0);

/**
 * WGSL that runs `body` for the `i` of one workgroup: it belongs to the tensor `k` whose share `own` falls into.
 * Workgroups past the last share find no `i`.
 */
const share = (count: number, body: (k: number) => string): string => `
  var own = group;
  var done = false;
  ${indices(count)
    .map(
      (k) => `
    if (!done) {
      let shares = (u.n${k} + u.step - 1u) / u.step;
      if (own < shares) {
        done = true;
        let end = min((own + 1u) * u.step, u.n${k});
        for (var i = own * u.step + lane; i < end; i += 64u) { ${body(k)} }
      } else {
        own -= shares;
      }
    }`,
    )
    .join("")}`;

/** The `total` of all lanes, into `sums[0]`. */
const sumLanes = `
  sums[lane] = total;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { sums[lane] += sums[lane + half]; }
  }`;

/** Σ g² of each workgroup's share into `partial`. */
const squares = (count: number): Many<Record<never, never>> =>
  defineKernel({
    name: "clipGradNorm.squares",
    inputs: names(count),
    outputs: [],
    updates: ["partial"],
    uniforms: uniforms(count),
    knobs: {},
    source: (bindings) => wgsl`
      ${bindings}
      var<workgroup> sums: array<f32, 64>;
      ${main(64)}
        var total = 0.0;
        ${share(count, (k) => `let v = load_g${k}(i); total += v * v;`)}
        ${sumLanes}
        if (lane == 0u && done) { store_partial(u.first + group, sums[0]); }
      }`,
    grid: grid(count),
  });

/** Multiplies each share by the coefficient, and leaves memory alone where that is 1. */
const scale = (count: number): Many<{ readonly dtype: readonly ["f32", "bf16", "f16"] }> =>
  defineKernel({
    name: "clipGradNorm.scale",
    inputs: ["coefficient"],
    outputs: [],
    updates: names(count),
    uniforms: uniforms(count),
    knobs: { dtype: ["f32", "bf16", "f16"] },
    forms: ({ dtype }) => (dtype === "f32" ? {} : Object.fromEntries(names(count).map((name) => [name, "words"]))),
    source: (bindings, { dtype }) => wgsl`
      ${bindings}
      ${dtype === "f32" ? "" : halfFunctions[dtype]}
      ${main(64)}
        let c = load_coefficient(0u);
        if (c == 1.0) { return; }
        ${share(count, (k) => {
          if (dtype === "f32") return `store_g${k}(i, load_g${k}(i) * c);`;
          return `let w = load_g${k}(i); let v = ${halvesOfWord[dtype]} * c; store_g${k}(i, half(v.x) | (half(v.y) << 16u));`;
        })}
      }`,
    grid: grid(count),
  });

/** Each kernel for 1, 2, … gradients, made at its first use. */
const known = {
  squares: [] as (ReturnType<typeof squares> | undefined)[],
  scale: [] as (ReturnType<typeof scale> | undefined)[],
};
const squaresOf = (count: number): ReturnType<typeof squares> => (known.squares[count] ??= squares(count));
const scaleOf = (count: number): ReturnType<typeof scale> => (known.scale[count] ??= scale(count));

const finish = defineKernel({
  name: "clipGradNorm.norm",
  inputs: ["partial"],
  outputs: ["norm", "coefficient"],
  uniforms: { n: "u32", most: "f32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    var<workgroup> sums: array<f32, 64>;
    ${main(64)}
      var total = 0.0;
      for (var i = lane; i < u.n; i += 64u) { total += load_partial(i); }
      ${sumLanes}
      if (lane == 0u && group == 0u) {
        let norm = sqrt(sums[0]);
        let c = u.most / (norm + 1e-6);
        store_norm(0u, norm);
        // min() may drop a NaN, and comparisons may not see it; its bits say what it is.
        let isNumber = (bitcast<u32>(norm) & 0x7fffffffu) <= 0x7f800000u;
        store_coefficient(0u, select(norm, min(c, 1.0), isNumber));
      }
    }`,
  grid: () => 1,
});

/** Cuts a list into runs of one of {@link SIZES} whose bindings, and one more, the adapter allows. */
function runs(tensors: readonly Tensor[], { limits }: Device): Tensor[][] {
  const most = limits.maxStorageBuffersPerShaderStage - 1;
  const out: Tensor[][] = [];
  for (let at = 0; at < tensors.length; at += (out.at(-1) as Tensor[]).length) {
    const run = (size: number): Tensor[] => tensors.slice(at, at + size);
    const bindings = (size: number): number => run(size).reduce((sum, { bytes }) => sum + windowsOf(bytes, limits), 0);
    out.push(run(SIZES.find((size) => at + size <= tensors.length && bindings(size) <= most) ?? 1));
  }
  return out;
}

const floats = ["f32", "bf16", "f16"] as const;

/** Gradients of one dtype go together, so that kernels are not compiled for every mixture of them. */
const ofDtype = (tensors: readonly Tensor[], dtype: string): Tensor[] => tensors.filter((t) => t.dtype === dtype);

/** The uniforms of one run: its tensors' counts, in elements or words. */
const numbers = (count: readonly number[], step: number, first: number): Record<string, number> => ({
  ...Object.fromEntries(count.map((n, k) => [`n${k}`, n])),
  step,
  first,
});

/**
 * The norm of all gradients taken together, without changing them.
 *
 * @param gradients  as {@link clipGradNorm} takes them
 * @returns          a scalar f32 on the device
 * @throws {UsageError} when there is no gradient, or one comes twice
 * @see torch.nn.utils.get_total_norm
 */
export function gradNorm(gradients: readonly (Tensor | null)[]): Tensor {
  return scope(() => measure("gradNorm", gradients, Infinity).norm);
}

/**
 * Scales gradients in place so that their norm, taken over all of them together, is at most `maxNorm`:
 * `g · min(1, maxNorm / (norm + 1e-6))`.
 *
 * Squares are summed in f32. If the norm is infinite, finite gradients become 0 and infinite ones NaN; if it is NaN, all
 * become NaN, as in PyTorch with `error_if_nonfinite=False`. Read the norm before the optimizer's step to refuse that.
 *
 * @param gradients  float tensors of any shapes, null where there is none
 * @returns          the norm before clipping, a scalar f32 on the device
 * @throws {UsageError} when there is no gradient, one comes twice, or `maxNorm` is no positive number
 * @see torch.nn.utils.clip_grad_norm_
 */
export function clipGradNorm(gradients: readonly (Tensor | null)[], maxNorm: number): Tensor {
  if (!(maxNorm > 0)) throw new UsageError(`clipGradNorm: maxNorm is ${maxNorm}, not a positive number`);
  return scope(() => {
    const { norm, coefficient, filled, step } = measure("clipGradNorm", gradients, maxNorm);
    for (const dtype of floats) {
      for (const run of runs(ofDtype(filled, dtype), norm.device)) {
        const named = Object.fromEntries(run.map((gradient, k) => [`g${k}`, gradient]));
        const counts = run.map(({ size }) => (bits(dtype) === 16 ? Math.ceil(size / 2) : size));
        scaleOf(run.length)({ coefficient, ...named }, {}, numbers(counts, step, 0), { knobs: { dtype } });
      }
    }
    return norm;
  });
}

/** The norm, what gradients are to be multiplied by, and how their elements are shared out. */
function measure(who: string, gradients: readonly (Tensor | null)[], maxNorm: number) {
  const all = gradients.filter((gradient) => gradient !== null);
  const device = all[0]?.device;
  if (!device) throw new UsageError(`${who}: there is no gradient`);
  if (firstOverlap(all) >= 0) {
    throw new UsageError(`${who}: two of the gradients share memory, and would count or be scaled twice`);
  }
  const filled = all.filter(({ size }) => size > 0);
  const elements = filled.reduce((sum, { size }) => sum + size, 0);
  const step = Math.max(LEAST, Math.ceil(elements / WORKGROUPS));
  const n = filled.reduce((sum, { size }) => sum + groupsOf(size, step), 0);
  const partial = emptyTensor(device, { shape: [n], dtype: "f32" }, who);
  let first = 0;
  for (const run of floats.flatMap((dtype) => runs(ofDtype(filled, dtype), device))) {
    const named = Object.fromEntries(run.map((gradient, k) => [`g${k}`, gradient]));
    const counts = run.map(({ size }) => size);
    squaresOf(run.length)({ ...named, partial }, {}, numbers(counts, step, first));
    first += counts.reduce((sum, size) => sum + groupsOf(size, step), 0);
  }
  const scalar = { shape: [], dtype: "f32" } as const;
  const made = finish({ partial }, { norm: scalar, coefficient: scalar }, { n, most: maxNorm });
  return { ...made, filled, step };
}
