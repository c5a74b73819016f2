/** What `rot-cli tune` runs: the sizes that models have, and the largest case of every op. */
import { binary, cast, grad, isFloat, print, randn, requireGrad, type Shape, sum, type Tensor } from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import type { Device } from "@rot/tensor/kernel";
import { addNorm } from "../add-norm/add-norm.ts";
import { attention } from "../attention/attention.ts";
import { type AnyCases, kernelCases } from "../cases.ts";
import { layerNorm } from "../layer-norm/layer-norm.ts";
import { linear } from "../linear/linear.ts";
import { rmsNorm } from "../rms-norm/rms-norm.ts";
import { rotary } from "../rotary/rotary.ts";
import { sample } from "../sampling/sampling.ts";
import { swiglu } from "../swiglu/swiglu.ts";

/** Work that calls kernels. */
export interface Problem {
  /** The op, and then its shapes. */
  readonly name: string;
  /** About how many times as long as most it takes to tune, for progress; 1 if not given. */
  readonly parts?: number;
  /** Records an op and its gradients, on inputs of its own. Call it within a scope. */
  run(device: Device): void;
}

/** Tokens of a long prompt, a short one, and a step of decoding. */
const lengths = [512, 32, 1];

const eps = 1e-6;

/** Of Qwen3-VL: D of the 2B and the 4B decoder, F of the latter, K of both, and the widths of the vision tower. */
const models: readonly Problem[] = lengths.flatMap((L) => [
  ...[2560, 2048].flatMap((D) => [
    taped("rmsNorm", [[L, D], [D]], ([x, weight]) => rmsNorm(x, weight, { eps })),
    taped("addNorm", [[L, D], [L, D], [D]], ([x, residual, weight]) => addNorm(x, residual, weight, { eps })[0]),
  ]),
  taped("rmsNorm", [[L, 32, 128], [128]], ([x, weight]) => rmsNorm(x, weight, { eps })),
  taped("layerNorm", [[L, 1024], [1024], [1024]], ([x, weight, bias]) => layerNorm(x, weight, bias, { eps })),
  taped(
    "rotary",
    [
      [1, L, 32, 128],
      [L, 128],
      [L, 128],
    ],
    ([x, cos, sin]) => rotary(x, cos, sin, { heads: true }),
  ),
  taped(
    "swiglu",
    [
      [L, 9728],
      [L, 9728],
    ],
    ([gate, up]) => swiglu(gate, up),
  ),
]);

/**
 * Projections: D to D, D to F and back, with trained f32 weights and with frozen bf16 ones. Lengths of the middle of the
 * classes in which products share a choice; of their beginning on SwiftShader, where a product of the middle takes seconds.
 */
const products: readonly Problem[] = lengths.flatMap((L) =>
  [
    [2048, 2048],
    [2048, 8192],
    [8192, 2048],
  ].flatMap(([K = 0, N = 0]) =>
    (["f32", "bf16"] as const).map((dtype): Problem => ({
      name: `linear ${print([L, K])} ${print([N, K])} ${dtype}`,
      parts: 1 + Math.ceil((12 * L * K * N) / 2 ** 31),
      run(device) {
        const half = device.kind === "embedded" && L > 32 ? 2 : 1;
        const x = requireGrad(randn(device, [L / half, K / half], { seed: 1 }));
        const weight = cast(randn(device, [N / half, K / half], { seed: 2 }), dtype);
        const leaves = dtype === "f32" ? [x, requireGrad(weight)] : [x];
        backwards(linear(x, weight), leaves);
      },
    })),
  ),
);

/** A prompt, and a step of decoding after it, with the heads of Qwen3-VL-2B. */
const attentions: readonly Problem[] = lengths.map((L) =>
  taped(
    "attention",
    [
      [1, L, 16, 128],
      [1, L === 1 ? 512 : L, 8, 128],
      [1, L === 1 ? 512 : L, 8, 128],
    ],
    ([q, k, v]) => attention(q, k, v, { causal: true }),
  ),
);

const vocabulary = 151_936;

const samples: readonly Problem[] = [4, 1].map((rows) => ({
  name: `sample ${print([rows, vocabulary])}`,
  run: (device) => void sample(randn(device, [rows, vocabulary], { seed: 1 }), { seed: 2, topK: 20, topP: 0.9 }),
}));

/** Every problem. The first of each class stands for the rest of it. */
export const problems: readonly Problem[] = [
  ...models,
  ...products,
  ...attentions,
  ...samples,
  ...Object.values(kernelCases).flat().map(largestOf),
];

/** A function of tensors of these shapes, and its gradients. */
function taped<const S extends readonly Shape[]>(
  name: string,
  shapes: S,
  f: (inputs: { readonly [N in keyof S]: Tensor }) => Tensor,
): Problem {
  return {
    name: `${name} ${shapes.map(print).join(" ")}`,
    run(device) {
      const inputs = shapes.map((shape, seed) => requireGrad(randn(device, shape, { seed })));
      backwards(f(inputs as unknown as { readonly [N in keyof S]: Tensor }), inputs);
    },
  };
}

/** The largest case of an op: the others are there to be wrong, not to be slow, and compiling every setting takes long. */
function largestOf({ op, cases }: AnyCases): Problem {
  const [one] = cases.toSorted((a, b) => b.flops + b.bytes - a.flops - a.bytes) as [(typeof cases)[0]];
  return {
    name: `${op.spec.name} ${one.name}`,
    run(device) {
      const inputs = one.inputs(new Random(device));
      const leaves = inputs.filter(({ dtype }) => isFloat(dtype)).map((input) => requireGrad(input));
      backwards(op(...inputs, one.params), leaves);
    },
  };
}

function backwards(y: Tensor, leaves: readonly Tensor[]): void {
  if (y.size > 0) grad(sum(binary.mul(y, randn(y.device, y.shape, { seed: 99 }))), leaves);
}
