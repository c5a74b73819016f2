import {
  attention as composed,
  full,
  grad,
  openDevice,
  permute,
  requireGrad,
  ShapeError,
  tensor,
  type Tensor,
  UsageError,
} from "@rot/tensor";
import { checkOp, expect, test } from "@rot/tensor/testing";
import { Random } from "@rot/tensor/cases";
import fc from "fast-check";
import { agree, runs } from "../../test/tools/agree.ts";
import { attention, attentionOp } from "./attention.ts";
import { cases } from "./attention.cases.ts";
import { attentionKernels, withSetting } from "./kernels.ts";
import type { AttentionParams, AttentionRule } from "./options.ts";
import { attend } from "./run.ts";
import { visibleKeys } from "./visible.ts";

checkOp(cases);

const span = (length: number): fc.Arbitrary<[number, number]> =>
  fc.tuple(fc.nat(length), fc.nat(length)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);

const point = fc
  .record({
    B: fc.constantFrom(1, 1, 2, 3, 0),
    Lq: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 40 })),
    Lk: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 70 })),
    G: fc.integer({ min: 1, max: 3 }),
    repeats: fc.constantFrom(1, 1, 2, 3, 5),
    K: fc.constantFrom(4, 8, 16, 20, 36),
    W: fc.constantFrom(4, 8, 16, 20),
    causal: fc.boolean(),
    setting: fc.constantFrom(...attentionKernels.settings()),
    needs: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
    ranges: fc.constantFrom<"none" | "shared" | "each">("none", "shared", "each"),
    square: fc.boolean(),
    seed: fc.nat(),
  })
  .map((of) => ({ ...of, Lk: of.square ? of.Lq : of.Lk }))
  .chain((of) =>
    fc.record({
      of: fc.constant(of),
      rules: fc.oneof(
        { weight: 2, arbitrary: fc.constant<AttentionRule[]>([]) },
        {
          weight: 1,
          arbitrary: fc.array(
            fc.record({ queries: span(of.Lq), keys: span(of.Lk), bias: fc.constantFrom(-Infinity, -0.7, 2) }),
            { minLength: 1, maxLength: 3 },
          ),
        },
      ),
    }),
  );

test(
  "agrees with its reference at 200 random points, forward and gradients",
  { timeout: 240_000 },
  async ({ device }) => {
    await fc.assert(
      fc.asyncProperty(point, async ({ of, rules }) => {
        const { B, Lq, Lk, G, repeats, K, W, causal, setting, needs, ranges, seed } = of;
        if (!attentionKernels.runsOn(device, setting)) return;
        const random = new Random(device, seed);
        const inputs: [Tensor, Tensor, Tensor, ...Tensor[]] = [
          random.normal([B, Lq, G * repeats, K]),
          random.normal([B, Lk, G, K]),
          random.normal([B, Lk, G, W]),
        ];
        if (ranges !== "none") {
          const sequences = ranges === "each" ? B : 1;
          // Some ranges are empty, some reach beyond the keys.
          inputs.push(random.integers([sequences, Lq, 2], -2, Lk + 4));
        }
        const params: AttentionParams = { scale: 0.4, causal, rules };
        await attentionKernels.with(setting, () =>
          agree(attentionOp, random, {
            inputs,
            params,
            needs: [...needs, false],
            tolerance: { absolute: 1e-4, relative: 1e-4 },
          }),
        );
        for (const input of inputs) input.dispose();
      }),
      runs,
    );
  },
);

const int = (random: Random, values: readonly number[], shape: readonly number[]): Tensor =>
  tensor(random.device, Int32Array.from(values), { shape, dtype: "i32" });
const exchange = (x: Tensor): Tensor => permute(x, [0, 2, 1, 3]);

test("rows in several chunks agree with those in one", async ({ device, random }) => {
  const [q, k, v] = [0, 1, 2].map(() => random.normal([1, 300, 8, 4])) as [Tensor, Tensor, Tensor];
  const params: AttentionParams = { scale: 0.5, causal: true, rules: [] };
  const want = attentionOp.spec.reference?.([q, k, v], params) as Tensor;
  for (const setting of attentionKernels.settings().filter((one) => attentionKernels.runsOn(device, one))) {
    await attentionKernels.with(setting, () =>
      expect(attentionOp(q, k, v, params)).toBeClose(want, { absolute: 1e-5 }),
    );
  }
});

// One form of the kernel, with all that it can do: the others take CPU adapters long to compile, and are run where it is used.
test(
  "the kernel for GPUs gives the same, with the sums that gradients read",
  { timeout: 120_000 },
  async ({ random }) => {
    const [B, Lq, Lk, H, G, K, W] = [2, 41, 75, 4, 2, 36, 40];
    const values = random.normals(B * Lk * G * W);
    for (let b = 0; b < B; b++) values.fill(Number.NaN, (b * Lk + 70) * G * W, (b + 1) * Lk * G * W);
    const ranges = Array.from({ length: B * Lq }, (_, n) => [n % 7, n % 5 === 0 ? 0 : 40 + (n % 31)]).flat();
    const call = {
      q: random.normal([B, Lq, H, K], 2),
      k: random.normal([B, Lk, G, K]),
      v: tensor(random.device, values, { shape: [B, Lk, G, W] }),
      visible: int(random, ranges, [B, Lq, 2]),
      params: {
        scale: 0.3,
        causal: true,
        rules: [
          { queries: [5, 30], keys: [2, 50], bias: -0.7 },
          { queries: [0, 41], keys: [20, 24], bias: -Infinity, sequence: 1 },
        ],
      } satisfies AttentionParams,
    };
    const want = withSetting({ arrangement: "own", workspace: 8 }, () => attend(call));
    const got = withSetting({ arrangement: "flash" }, () => attend(call));
    expect((await want.y.read()).every(Number.isFinite)).toBe(true);
    await expect(got.y).toBeClose(want.y, { absolute: 1e-5 });
    await expect(got.total).toBeClose(want.total, { absolute: 1e-4, relative: 1e-6 });
  },
);

test("odd widths, and the composition of @rot/tensor", async ({ random }) => {
  const inputs = [random.normal([2, 5, 6, 7]), random.normal([2, 9, 2, 7]), random.normal([2, 9, 2, 3])] as const;
  for (const input of inputs) requireGrad(input);
  const cotangent = random.normal([2, 5, 6, 3]);
  const [q, k, v] = inputs;
  const y = attention(q, k, v, { causal: true });
  const want = exchange(composed(exchange(q), exchange(k), exchange(v), { causal: true }));
  await expect(y).toBeClose(want, { absolute: 1e-5 });
  const [got, wanted] = [y, want].map((of) => grad(of, inputs, { cotangent })) as [Tensor[], Tensor[]];
  for (const [i, g] of got.entries()) await expect(g).toBeClose(wanted[i] as Tensor, { absolute: 1e-5 });
});

test("a query that sees no key gives zeros and has no gradient", async ({ random }) => {
  const [q, k, v] = [0, 1, 2].map(() => requireGrad(random.normal([1, 3, 1, 4]))) as [Tensor, Tensor, Tensor];
  const visible = int(random, [0, 2, 2, 2, 3, 1], [1, 3, 2]);
  const y = attention(q, k, v, { visible });
  const values = await y.read();
  expect(values.slice(4).every((value) => value === 0)).toBe(true);
  const [dq, dk, dv] = grad(y, [q, k, v], { cotangent: random.normal(y.shape) }) as [Tensor, Tensor, Tensor];
  expect((await dq.read()).slice(4).every((value) => value === 0)).toBe(true);
  for (const d of [dk, dv]) expect((await d.read()).slice(8).every((value) => value === 0)).toBe(true);
});

test("NaN in keys that nobody sees leaves no trace", async ({ random }) => {
  const [B, Lq, Lk, K] = [2, 3, 50, 8];
  const q = requireGrad(random.normal([B, Lq, 4, K]));
  const spoiled = random.normals(B * Lk * 2 * K);
  const clean = spoiled.slice();
  const lengths = [21, 34];
  for (const [b, length] of lengths.entries()) {
    spoiled.fill(Number.NaN, (b * Lk + length) * 2 * K, (b + 1) * Lk * 2 * K);
    spoiled.fill(Number.NaN, b * Lk * 2 * K, (b * Lk + 2) * 2 * K);
  }
  const visible = visibleKeys.cached(random.device, { lengths, starts: [2, 2], queries: Lq });
  const cotangent = random.normal([B, Lq, 4, K]);
  const run = async (values: Float32Array) => {
    const [k, v] = [values, values].map((of) => requireGrad(tensor(random.device, of, { shape: [B, Lk, 2, K] }))) as [
      Tensor,
      Tensor,
    ];
    const y = attention(q, k, v, { visible });
    return Promise.all([y, ...grad(y, [q, k, v], { cotangent })].map((t) => t.read()));
  };
  expect(await run(spoiled)).toEqual(await run(clean));
});

test("scores of ten thousand stay finite", async ({ random }) => {
  const three = [
    random.normal([1, 20, 2, 8], 60),
    random.normal([1, 20, 2, 8], 60),
    random.normal([1, 20, 2, 8]),
  ] as const;
  for (const x of three) requireGrad(x);
  const y = attention(...three, { causal: true, scale: 1 });
  for (const t of [y, ...grad(y.sum(), three)]) expect((await t.read()).every(Number.isFinite)).toBe(true);
});

test("rules beyond everything, visible keys and lengths are refused where they do not fit", ({ random }) => {
  const q = random.normal([2, 3, 4, 8]);
  const k = random.normal([2, 5, 2, 8]);
  expect(() => attention(q, random.normal([2, 5, 3, 8]), k)).toThrow(ShapeError);
  expect(() => attention(q, k, random.normal([2, 4, 2, 8]))).toThrow("v f32 [2, 4, 2, 8]");
  expect(() => attention(q, k, k, { visible: random.normal([1, 3, 2]) })).toThrow("visible is f32 [1, 3, 2]");
  expect(() => attention(q, k, k, { visible: int(random, [0, 1], [1, 1, 2]) })).toThrow(ShapeError);
  expect(() => attention(q, k, k, { rules: [{ queries: [2, 1], keys: [0, 1], bias: 0 }] })).toThrow(UsageError);
  expect(() => attention(q, k, k, { rules: [{ queries: [0, 1], keys: [0, 1], bias: Number.NaN }] })).toThrow("NaN");
  expect(() => visibleKeys.segments(random.device, [0, 4, 3])).toThrow("segment 1 goes from 4 to 3");
  expect(() => visibleKeys.padded(random.device, { lengths: [2], starts: [3], queries: 1 })).toThrow(ShapeError);
});

test("helpers name the ranges", async ({ device }) => {
  const read = async (t: Tensor) => [...(await t.read())];
  expect(await read(visibleKeys.padded(device, { lengths: [2, 3], starts: [0, 1], queries: 1 }))).toEqual([0, 2, 1, 3]);
  expect(await read(visibleKeys.cached(device, { lengths: [5], queries: 2 }))).toEqual([0, 4, 0, 5]);
  expect(await read(visibleKeys.segments(device, [0, 1, 1, 3]))).toEqual([0, 1, 1, 3, 1, 3]);
});

test("the gradients have the same bits every time", async ({ random }) => {
  const three = [random.normal([1, 90, 4, 16]), random.normal([1, 90, 2, 16]), random.normal([1, 90, 2, 16])] as const;
  for (const x of three) requireGrad(x);
  const once = () =>
    Promise.all(
      grad(
        attention(...three, { causal: true })
          .square()
          .sum(),
        three,
      ).map((g) => g.read()),
    );
  expect(await once()).toEqual(await once());
});

test("memory grows with the tokens, not with their square", { timeout: 120_000 }, async () => {
  const peaks: number[] = [];
  for (const L of [1024, 2048, 4096]) {
    using own = await openDevice({ notice: () => {} });
    const three = [0, 1, 2].map(() => requireGrad(full(own, [1, L, 2, 4], 0.5))) as [Tensor, Tensor, Tensor];
    const gradients = grad(attention(...three, { causal: true }).sum(), three);
    await gradients[0]?.read();
    peaks.push(own.memory().peak);
  }
  const [one, two, four] = peaks as [number, number, number];
  expect(two).toBeLessThan(2.2 * one);
  expect(four).toBeLessThan(2.2 * two);
  expect(four).toBeLessThan(36 * 2 ** 20); // all scores of one kind would take 128 MiB
});
