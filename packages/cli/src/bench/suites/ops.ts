/** Products, rows and elementwise ops in the sizes that engines are compared by. */
import {
  binary,
  cast,
  type Device,
  matmul,
  rmsNorm as plainRmsNorm,
  scope,
  type Shape,
  size,
  softmax,
  sum,
  tensor,
  type Tensor,
} from "@rot/tensor";
import { rmsNorm } from "@rot/kernels";
import { type Benchmark, checkOf } from "../benchmark.ts";
import { noise } from "../noise.ts";
import { naiveAdd, naiveMatmul } from "./naive.ts";

/** The noise of a seed as a tensor. */
export const draw = (device: Device, shape: Shape, seed: number): Tensor =>
  tensor(device, noise(size(shape), seed), { shape });

const products = (n: number): Benchmark => ({
  name: `matmul ${n}`,
  flops: 2 * n ** 3,
  bytes: 12 * n ** 2,
  work: { name: "matmul", sizes: { n } },
  ...(n >= 1024 && { target: 5 }),
  prepare(device) {
    const [a, b] = [draw(device, [n, n], 1), draw(device, [n, n], 2)];
    const half = cast(b, "bf16");
    // Above, the plain kernel takes seconds and says nothing new.
    const reference = n <= 1024 ? { reference: "reference" } : {};
    return [
      ...(n <= 1024 ? [{ name: "reference", run: () => naiveMatmul({ a, b }, { y: a }, { n }) }] : []),
      { name: "a · b", run: () => matmul(a, b), check: checkOf(() => matmul(a, b)), ...reference },
      { name: "a · bᵀ", run: () => matmul(a, b, { transposeB: true }), ...reference },
      { name: "aᵀ · b", run: () => matmul(a, b, { transposeA: true }), ...reference },
      {
        name: "a · bᵀ, b in bf16",
        run: () => matmul(a, half, { transposeB: true }),
        bytes: 8 * n ** 2 + half.bytes,
        ...reference,
      },
    ];
  },
});

/** One row, as in decoding; weights as [inputs, outputs], and as checkpoints have them. */
const matvec = (n: number, transposed: boolean): Benchmark => {
  const options = { transposeB: transposed };
  const name = transposed ? "x · wᵀ" : "x · w";
  return {
    name: `matvec${transposed ? " transposed" : ""} ${n}`,
    flops: 2 * n ** 2,
    bytes: 4 * n ** 2,
    work: { name: transposed ? "matvec-transposed" : "matvec", sizes: { n } },
    prepare(device) {
      const [x, w] = [draw(device, [1, n], 1), draw(device, [n, n], 2)];
      const half = cast(w, "bf16");
      return [
        { name, run: () => matmul(x, w, options), check: checkOf(() => matmul(x, w, options)) },
        { name: `${name}, w in bf16`, run: () => matmul(x, half, options), bytes: half.bytes, reference: name },
      ];
    },
  };
};

const LARGE = 2 ** 24;

const rows = { rows: 1024, width: 2048 };
const wide = { rows: 1024, width: 4096 };

export const ops: readonly Benchmark[] = [
  ...[256, 512, 1024, 2048].map(products),
  matvec(4096, false),
  matvec(4096, true),
  {
    name: "rms-norm 1024x2048",
    flops: 4 * rows.rows * rows.width,
    bytes: 8 * rows.rows * rows.width,
    work: { name: "rms-norm", sizes: rows },
    prepare(device) {
      const [x, weight] = [draw(device, [rows.rows, rows.width], 1), draw(device, [rows.width], 2)];
      const norm = () => rmsNorm(x, weight, { eps: 1e-6 });
      return [
        { name: "reference", run: () => plainRmsNorm(x, weight, 1e-6) },
        { name: "rmsNorm", run: norm, check: checkOf(norm), reference: "reference" },
      ];
    },
  },
  {
    name: "softmax 1024x4096",
    flops: 5 * wide.rows * wide.width,
    bytes: 8 * wide.rows * wide.width,
    work: { name: "softmax", sizes: wide },
    prepare(device) {
      const x = draw(device, [wide.rows, wide.width], 1);
      const plain = () => {
        const weights = x.sub(x.max(-1, { keepDim: true })).exp();
        return weights.div(weights.sum(-1, { keepDim: true }));
      };
      return [
        { name: "reference", run: plain },
        { name: "softmax", run: () => softmax(x), check: checkOf(() => softmax(x)), reference: "reference" },
      ];
    },
  },
  {
    name: "add 16M",
    flops: LARGE,
    bytes: 12 * LARGE,
    work: { name: "add", sizes: { n: LARGE } },
    prepare(device) {
      const [a, b] = [draw(device, [LARGE], 1), draw(device, [LARGE], 2)];
      return [
        { name: "reference", run: () => naiveAdd({ a, b }, { y: a }, { n: LARGE }) },
        { name: "add", run: () => binary.add(a, b), check: checkOf(() => binary.add(a, b)), reference: "reference" },
      ];
    },
  },
  {
    name: "sum 16M",
    flops: LARGE,
    bytes: 4 * LARGE,
    prepare(device) {
      const x = draw(device, [LARGE], 1);
      return [{ name: "sum", run: () => sum(x) }];
    },
  },
];

/** 1,000 additions on 256 elements, each to the result of the one before. */
export const dispatches: Benchmark = {
  name: "1000 tiny dispatches",
  work: { name: "dispatches", sizes: { count: 1000, width: 256 } },
  prepare(device) {
    const start = draw(device, [256], 1);
    const chain = () => {
      let x: Tensor = start;
      for (let i = 0; i < 1000; i++) x = binary.add(x, 1e-3 * (i + 1));
      return x;
    };
    return [{ name: "add", run: chain, check: checkOf(() => scope(chain)) }];
  },
};
