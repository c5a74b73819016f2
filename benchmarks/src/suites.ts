/** What is timed. The first candidate of a benchmark is its reference: the plainest kernel that gives the same. */
import {
  AdamW,
  binary,
  cast,
  type Device,
  full,
  grad,
  init,
  linear,
  matmul,
  meanSquaredError,
  rand,
  requireGrad,
  softmax,
  sum,
  type Tensor,
} from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import type { Candidate } from "./timing.ts";

/** One kind of work, and the candidates that do it. */
export interface Benchmark {
  readonly name: string;
  /** Operations and bytes of the work, where it has them. */
  readonly flops?: number;
  readonly bytes?: number;
  readonly prepare: (device: Device) => readonly Candidate[];
}

/** One output an invocation, one element at a time: what every matmul must beat. */
const naiveMatmul = defineKernel({
  name: "naive.matmul",
  inputs: ["a", "b"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i >= u.n * u.n) { return; }
      var total = 0.0;
      for (var k = 0u; k < u.n; k++) { total += load_a(i / u.n * u.n + k) * load_b(k * u.n + i % u.n); }
      store_y(i, total);
    }`,
  grid: ({ n }) => Math.ceil((n * n) / 64),
});

/** One element an invocation. */
const naiveAdd = defineKernel({
  name: "naive.add",
  inputs: ["a", "b"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      if (i < u.n) { store_y(i, load_a(i) + load_b(i)); }
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

const noise = (device: Device, shape: readonly number[], seed: number): Tensor => rand(device, shape, { seed });

function products(n: number): Benchmark {
  return {
    name: `matmul ${n}`,
    flops: 2 * n ** 3,
    prepare(device) {
      const [a, b] = [noise(device, [n, n], 1), noise(device, [n, n], 2)];
      const half = cast(b, "bf16");
      return [
        { name: "reference", run: () => naiveMatmul({ a, b }, { y: a }, { n }) },
        { name: "a · b", run: () => matmul(a, b) },
        { name: "a · bᵀ", run: () => matmul(a, b, { transposeB: true }) },
        { name: "aᵀ · b", run: () => matmul(a, b, { transposeA: true }) },
        { name: "a · bᵀ, b in bf16", run: () => matmul(a, half, { transposeB: true }) },
      ];
    },
  };
}

/** 256 samples through 512, 2048 and 512 units: forward, backward and AdamW. */
const mlp: Benchmark = {
  name: "mlp training step 256x512x2048",
  flops: 3 * 2 * 2 * 256 * 512 * 2048,
  prepare(device) {
    const [x, y] = [noise(device, [256, 512], 1), noise(device, [256, 512], 2)];
    const weights = (
      [
        [2048, 512],
        [512, 2048],
      ] as const
    ).map((shape, i) => requireGrad(init.kaimingUniform(device, shape, { seed: i })));
    const optimizer = new AdamW(weights, { lr: 1e-4 });
    return [
      {
        name: "step",
        run: () => {
          const hidden = linear(x, weights[0] as Tensor).relu();
          optimizer.step(grad(meanSquaredError(linear(hidden, weights[1] as Tensor), y), weights));
        },
      },
    ];
  },
};

const LARGE = 2 ** 24;

/** Everything, in the order of a report. */
export const benchmarks: readonly Benchmark[] = [
  products(256),
  products(512),
  products(1024),
  {
    name: "matvec 4096",
    flops: 2 * 4096 ** 2,
    bytes: 4 * 4096 ** 2,
    prepare(device) {
      const [x, w] = [noise(device, [1, 4096], 1), noise(device, [4096, 4096], 2)];
      const half = cast(w, "bf16");
      return [
        { name: "x · w", run: () => matmul(x, w) },
        { name: "x · wᵀ", run: () => matmul(x, w, { transposeB: true }) },
        { name: "x · wᵀ, w in bf16", run: () => matmul(x, half, { transposeB: true }), bytes: half.bytes },
      ];
    },
  },
  {
    name: "add 16M",
    bytes: 12 * LARGE,
    prepare(device) {
      const [a, b] = [full(device, [LARGE], 1), full(device, [LARGE], 2)];
      return [
        { name: "reference", run: () => naiveAdd({ a, b }, { y: a }, { n: LARGE }) },
        { name: "add", run: () => binary.add(a, b) },
      ];
    },
  },
  {
    name: "sum 16M",
    bytes: 4 * LARGE,
    prepare(device) {
      const x = full(device, [LARGE], 1);
      return [{ name: "sum", run: () => sum(x) }];
    },
  },
  {
    name: "softmax 1024x4096",
    bytes: 8 * 2 ** 22,
    prepare(device) {
      const x = noise(device, [1024, 4096], 1);
      return [
        {
          name: "reference",
          run: () =>
            x
              .sub(x.max(-1, { keepDim: true }))
              .exp()
              .div(x.exp().sum(-1, { keepDim: true })),
        },
        { name: "softmax", run: () => softmax(x) },
      ];
    },
  },
  mlp,
];
