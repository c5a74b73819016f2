import fc from "fast-check";
import {
  binary,
  cast,
  crossEntropy,
  type Device,
  type DType,
  grad,
  matmul,
  openDevice,
  randn,
  requireGrad,
  reshape,
  scope,
  ShapeError,
  tensor,
  type Tensor,
} from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import { checkGradients, checkOp, expect, relativeError, test } from "@rot/tensor/testing";
import { afterAll, beforeAll, describe } from "vitest";
import { cases } from "./cross-entropy.cases.ts";
import { linearCrossEntropy, type LinearCrossEntropyOptions } from "./cross-entropy.ts";
import { gatherState } from "./cross-entropy.wgsl.ts";

checkOp(cases);

let small: Device;
beforeAll(async () => {
  small = await openDevice({ limits: { maxStorageBufferBindingSize: 65_536 } });
});
afterAll(() => small.destroy());

const int = (values: ArrayLike<number>, device: Device): Tensor =>
  tensor(device, Int32Array.from(values), { dtype: "i32" });

/** The loss and the gradients of what wants them. */
function run(f: () => Tensor, leaves: readonly Tensor[]): readonly Tensor[] {
  const loss = f();
  return [loss, ...grad(loss, leaves)];
}

const problem = fc.record({
  N: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(64, 65, 140)),
  D: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 130)),
  V: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 100, max: 600 })),
  hidden: fc.constantFrom<DType>("f32", "f32", "bf16"),
  head: fc.constantFrom<DType>("f32", "bf16", "f16"),
  wants: fc.constantFrom([true, false], [false, true], [true, true]),
  workspace: fc.constantFrom(1, 100_000, undefined),
  lanes: fc.constantFrom(64, 256),
  onHost: fc.boolean(),
  isSmall: fc.boolean(),
  sums: fc.boolean(),
  seed: fc.nat(),
});

test(
  "loss and gradients are those of all the logits at once, in 200 random shapes",
  { timeout: 240_000 },
  async ({ device }) => {
    await fc.assert(
      fc.asyncProperty(
        problem,
        async ({ N, D, V, hidden, head, wants, workspace, lanes, onHost, isSmall, sums, seed }) => {
          const draw = (on: Device) => {
            const random = new Random(on, seed);
            const x = random.normal([N, D], 1, hidden);
            const w = random.normal([V, D], 1, head);
            const labels = Array.from({ length: N }, () => (random.next() < 0.3 ? -100 : random.integer(0, V)));
            labels[random.integer(0, N)] = random.integer(0, V);
            const leaves = [x, w].filter((_, i) => wants[i]).map((t) => requireGrad(t));
            return { x, w, labels, leaves, onDevice: int(labels, on) };
          };
          const one = draw(isSmall ? small : device);
          const options: LinearCrossEntropyOptions = {
            reduction: sums ? "sum" : "mean",
            ...(workspace && { workspace }),
          };
          const got = gatherState.with({ lanes, wide: false }, () =>
            run(() => linearCrossEntropy(one.x, one.w, onHost ? one.labels : one.onDevice, options), one.leaves),
          );
          // All the logits at once may take more bindings than the small device has.
          const other = draw(device);
          const want = run(() => {
            const mean = crossEntropy(matmul(cast(other.x, "f32"), other.w, { transposeB: true }), other.onDevice);
            return sums ? binary.mul(mean, other.labels.filter((label) => label >= 0).length) : mean;
          }, other.leaves);
          for (const [i, y] of got.entries()) {
            const rounded = { f32: 2e-5, f16: 1e-3, bf16: 8e-3 }[y.dtype as "f32"];
            expect(y.dtype).toBe((want[i] as Tensor).dtype);
            expect(await relativeError(y, want[i] as Tensor), `${i === 0 ? "loss" : `gradient ${i - 1}`}`).toBeLessThan(
              rounded,
            );
          }
          for (const t of [one.x, one.w, one.onDevice, other.x, other.w, other.onDevice, ...got, ...want]) t.dispose();
        },
      ),
      { numRuns: 200, seed: 4 },
    );
  },
);

test("its gradients are the slopes of its loss", async ({ random }) => {
  const labels = int([3, -100, 0, 129], random.device);
  const inputs = (): [Tensor, Tensor] => [random.normal([4, 6]), random.normal([130, 6])];
  for (const reduction of ["mean", "sum", "none"] as const) {
    const loss = (x: Tensor, w: Tensor): Tensor => linearCrossEntropy(x, w, labels, { reduction, workspace: 1 });
    const [x, w] = inputs();
    await checkGradients(loss, [x, w]);
    const head = random.normal([130, 6]);
    await checkGradients((hidden) => loss(hidden, head), [random.normal([4, 6])]);
  }
});

describe("labels", () => {
  test("that are all ignored give NaN and gradients of 0, as in PyTorch", async ({ random }) => {
    const [x, w] = [requireGrad(random.normal([3, 4])), requireGrad(random.normal([5, 4]))];
    for (const labels of [int([-100, -100, -100], random.device), [-100, -100, -100]]) {
      for (const leaves of [[x, w], [x]]) {
        const head = leaves.length === 1 ? w.alias() : w;
        const [loss, ...gradients] = run(() => linearCrossEntropy(x, head, labels), leaves);
        await expect(loss as Tensor).toBeClose([NaN]);
        for (const g of gradients) expect((await g.read()).every((v) => v === 0)).toBe(true);
      }
      await expect(linearCrossEntropy(x, w, labels, { reduction: "sum" })).toBeClose([0]);
      await expect(linearCrossEntropy(x, w, labels, { reduction: "none" })).toBeClose([0, 0, 0]);
    }
  });

  test("outside the vocabulary make the loss NaN, and no gradient flows from their rows", async ({ random }) => {
    for (const label of [-1, 5, 2 ** 31 - 1]) {
      const x = requireGrad(random.normal([2, 4]));
      const [loss, dx] = run(() => linearCrossEntropy(x, random.normal([5, 4]), int([1, label], random.device)), [x]);
      await expect(loss as Tensor).toBeClose([NaN]);
      const values = await (dx as Tensor).read();
      expect(values.every(Number.isFinite)).toBe(true);
      expect(values.slice(4).every((v) => v === 0)).toBe(true);
    }
  });

  test("may be of any ignored index, even one of the vocabulary, and may be unsigned", async ({ random }) => {
    const [x, w] = [random.normal([3, 4]), random.normal([5, 4])];
    const rest = linearCrossEntropy(x, w, int([1, -100, 4], random.device));
    await expect(linearCrossEntropy(x, w, int([1, 2, 4], random.device), { ignoreIndex: 2 })).toBeClose(rest);
    await expect(linearCrossEntropy(x, w, [1, 2, 4], { ignoreIndex: 2 })).toBeClose(rest, { relative: 1e-6 });
    const unsigned = tensor(random.device, [1, 2, 4], { dtype: "u32" });
    await expect(linearCrossEntropy(x, w, unsigned, { ignoreIndex: 2 })).toBeClose(rest);
  });
});

test("hidden states may have any number of leading axes, and each token its own loss", async ({ random }) => {
  const [x, w] = [random.normal([2, 3, 4]), random.normal([9, 4])];
  const labels = [0, 8, -100, 3, 3, 1];
  const want = await linearCrossEntropy(reshape(x, [6, 4]), w, labels, { reduction: "none" }).read();
  const on = reshape(int(labels, random.device), [2, 3]);
  await expect(linearCrossEntropy(x, w, on, { reduction: "none" })).toBeClose({ shape: [2, 3], values: want });
  await expect(linearCrossEntropy(x, w, labels, { reduction: "none" })).toBeClose({ shape: [2, 3], values: want });
  expect(want[2]).toBe(0);
  const one = random.normal([4]);
  await expect(linearCrossEntropy(one, w, tensor(random.device, 3, { dtype: "i32" }))).toBeClose(
    linearCrossEntropy(reshape(one, [1, 4]), w, [3]),
  );
});

test("no rows give NaN, a vocabulary of one word 0, and one of none NaN", async ({ random }) => {
  const { device } = random;
  await expect(linearCrossEntropy(random.normal([0, 4]), random.normal([5, 4]), int([], device))).toBeClose([NaN]);
  await expect(linearCrossEntropy(random.normal([2, 4]), random.normal([1, 4]), int([0, 0], device))).toBeClose([0]);
  await expect(linearCrossEntropy(random.normal([2, 4]), random.normal([0, 4]), int([0, 0], device))).toBeClose([NaN]);
  await expect(linearCrossEntropy(random.normal([2, 0]), random.normal([8, 0]), int([0, 7], device))).toBeClose(
    [Math.log(8)],
    { relative: 1e-6 },
  );
});

test("logits of ±10,000 and infinite ones stay what they are", async ({ device }) => {
  const w = tensor(device, [[1], [-1], [0], [0.99]]);
  const x = requireGrad(tensor(device, [[1e4], [-1e4], [1e4]]));
  const [loss, dx] = run(() => linearCrossEntropy(x, w, int([0, 0, 3], device), { reduction: "sum" }), [x]);
  await expect(loss as Tensor).toBeClose([0 + 2e4 + 100], { relative: 1e-6 });
  await expect(dx as Tensor).toBeClose({ shape: [3, 1], values: [0, -2, 0.01] }, { absolute: 1e-6 });
  // Of equal logits each has its share, however large they are.
  const alike = linearCrossEntropy(tensor(device, [[1e4]]), tensor(device, [[1], [1], [1], [1]]), [2]);
  await expect(alike).toBeClose([Math.log(4)], { relative: 1e-6 });
  const open = tensor(device, [[1], [0], [-Infinity]]);
  await expect(linearCrossEntropy(tensor(device, [[1]]), open, [0])).toBeClose([Math.log1p(Math.exp(-1))], {
    relative: 1e-5,
  });
  await expect(linearCrossEntropy(tensor(device, [[1]]), open, [2])).toBeClose([Infinity]);
  await expect(linearCrossEntropy(tensor(device, [[-1]]), open, [1])).toBeClose([NaN]);
  await expect(linearCrossEntropy(tensor(device, [[NaN]]), open, [1])).toBeClose([NaN]);
});

test("the same input gives the same bits", async ({ device }) => {
  const bits = async (): Promise<readonly ArrayLike<number>[]> => {
    const random = new Random(device, 3);
    const [x, w] = [requireGrad(random.normal([70, 24])), requireGrad(random.normal([777, 24]))];
    const labels = random.integers([70], 0, 777);
    return Promise.all(
      run(() => linearCrossEntropy(x, w, labels, { workspace: 100_000 }), [x, w]).map((t) => t.read()),
    );
  };
  expect(await bits()).toEqual(await bits());
});

describe("memory", () => {
  /** The most that was live at once beyond the inputs, and what is live afterwards. */
  async function measure(N: number, D: number, V: number, dtype: DType, isFrozen: boolean, workspace?: number) {
    const device = await openDevice();
    const random = new Random(device);
    const x = requireGrad(random.normal([N, D]));
    const w = randn(device, [V, D], { seed: 1, std: D ** -0.5, dtype });
    if (!isFrozen) requireGrad(w);
    const labels = random.integers([N], 0, V);
    await device.sync();
    const { live } = device.memory();
    const step = (): readonly Tensor[] =>
      run(() => linearCrossEntropy(x, w, labels, workspace ? { workspace } : {}), isFrozen ? [x] : [x, w]);
    const results = step();
    const peak = device.memory().peak - live;
    const left = device.memory().live - live;
    const loss = await (results[0] as Tensor).item();
    device.destroy();
    return { peak, left, loss };
  }

  /** Some vectors as long as the rows, and 64 rows or fewer of hidden states. */
  const little = (N: number, D: number): number => 4 * N * 16 + 4 * Math.min(N, 64) * D + 4096;

  test("is the workspace and the gradients, and nothing stays but these", { timeout: 120_000 }, async () => {
    const [N, D, V, workspace] = [64, 64, 20_000, 2 ** 20];
    const logits = 4 * N * V;
    const frozen = await measure(N, D, V, "f32", true, workspace);
    expect(frozen.peak).toBeLessThan(logits + 4 * N * D + little(N, D)); // 64 rows are as few as it takes at a time
    expect(frozen.left).toBe(4 + 4 * N * D);
    const trained = await measure(N, D, V, "f32", false, workspace);
    expect(trained.peak).toBeLessThan(workspace + 4 * V * D + 4 * N * D + little(N, D));
    expect(trained.left).toBe(4 + 4 * V * D + 4 * N * D);
    expect(trained.loss).toBeCloseTo(frozen.loss, 4);
    const long = await measure(640, D, V, "bf16", true, workspace);
    expect(long.peak).toBeLessThan(logits + 4 * 640 * D + little(640, D));
  });

  test("of Qwen3's vocabulary is below 64 MiB", { timeout: 240_000 }, async () => {
    const [D, V] = [64, 151_936];
    for (const [N, isFrozen] of [
      [8, true],
      [8, false],
      [128, true],
    ] as const) {
      const { peak, loss } = await measure(N, D, V, "bf16", isFrozen);
      expect(peak - (isFrozen ? 0 : 2 * V * D), `${N} rows`).toBeLessThan(64 * 2 ** 20);
      expect(loss).toBeGreaterThan(11);
      expect(loss).toBeLessThan(14);
    }
  });
});

test("what does not fit is refused with the shapes", ({ random }) => {
  const [x, w, labels] = [random.normal([3, 4]), random.normal([5, 4]), random.integers([3], 0, 5)];
  const fit = "do not fit [..., D], [V, D] and [...]";
  expect(() => linearCrossEntropy(x, random.normal([5, 3]), labels)).toThrow(
    new ShapeError(`linearCrossEntropy: hidden [3, 4], weight [5, 3] and labels [3] ${fit}`),
  );
  expect(() => linearCrossEntropy(x, w, random.integers([2], 0, 5))).toThrow(`labels [2] ${fit}`);
  expect(() => linearCrossEntropy(x, random.normal([4]), labels)).toThrow(`weight [4] and labels [3] ${fit}`);
  expect(() => linearCrossEntropy(random.normal([]), w, labels)).toThrow(`hidden [], weight [5, 4]`);
  expect(() => linearCrossEntropy(x, w, [1, 2])).toThrow(`weight [5, 4] and 2 labels ${fit}`);
  expect(() => linearCrossEntropy(x, w, [1, 5, 2])).toThrow(
    "linearCrossEntropy: label 5 of row 1 is none of weight [5, 4], nor -100",
  );
  expect(() => linearCrossEntropy(x, w, random.normal([3]))).toThrow(
    "linearCrossEntropy: it takes floats, floats and integers, got f32, f32 and f32",
  );
});

test("a device of references runs its definition", async ({ random }) => {
  const device = await openDevice({ kernels: "reference" });
  const on = (r: Random): Tensor => linearCrossEntropy(r.normal([3, 4]), r.normal([5, 4]), r.integers([3], 0, 5));
  const got = scope(() => on(new Random(device)));
  expect(device.memory().labels.has("crossEntropy.loss")).toBe(false);
  await expect(got).toBeClose(on(random), { relative: 1e-5 });
  device.destroy();
});
