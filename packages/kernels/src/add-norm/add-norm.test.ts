import {
  type DType,
  grad,
  openDevice,
  print,
  requireGrad,
  type Shape,
  ShapeError,
  type Tensor,
  zeros,
} from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import { expect, test } from "@rot/tensor/testing";
import fc from "fast-check";
import { dtypes, runs, shapeOf, toleranceOf, widths } from "../../test/tools/agree.ts";
import { addNorm } from "./add-norm.ts";
import { addNormForward } from "./forward.wgsl.ts";

/** Which of the outputs the loss reads. */
type Uses = readonly [y: boolean, sum: boolean];

/** One place where the op and its reference are compared. */
interface Point {
  readonly shape: Shape;
  readonly of: readonly [stream: DType, weight: DType];
  readonly eps: number;
  readonly needs: readonly boolean[];
  readonly uses: Uses;
}

/** Compares both outputs and every gradient that is wanted. */
async function compare(random: Random, { shape, of, eps, needs, uses }: Point): Promise<void> {
  const inputs = [
    random.normal(shape, 1, of[0]),
    random.normal(shape, 1, of[1] === "f32" ? of[0] : of[1]),
    random.normal(shape.slice(-1), 1, of[1]),
  ] as const;
  const leaves = inputs.filter((_, i) => needs[i]).map((input) => requireGrad(input));
  const [want, got] = [
    addNorm.spec.reference?.([...inputs], { eps }) as readonly Tensor[],
    addNorm(...inputs, { eps }),
  ];
  const tolerance = toleranceOf(...of);
  const cotangents = want.map(({ shape, dtype }) => random.normal(shape, 1, dtype));
  for (const [i, y] of got.entries()) {
    expect(y.dtype).toBe(want[i]?.dtype);
    await expect(y, `output ${i}`).toBeClose(want[i] as Tensor, tolerance);
  }
  if (leaves.length === 0) return;
  const loss = (ys: readonly Tensor[]): Tensor =>
    ys
      .map((y, i) =>
        y
          .mul(cotangents[i] as Tensor)
          .to("f32")
          .sum(),
      )
      .filter((_, i) => uses[i])
      .reduce((a, b) => a.add(b));
  // A loss without the y says nothing of the weight: the reference has no path to it, the op a cotangent of zeros.
  const wanted = uses[0] ? leaves : leaves.filter((leaf) => leaf !== inputs[2]);
  if (wanted.length === 0) return;
  const [a, b] = [grad(loss(want), wanted), grad(loss(got), wanted)];
  for (const [i, g] of b.entries()) {
    expect(g.dtype).toBe(wanted[i]?.dtype);
    const scale = of.every((dtype) => dtype === "f32") ? 1 : 4;
    await expect(g, `gradient ${i}`).toBeClose(a[i] as Tensor, {
      absolute: scale * (tolerance.absolute ?? 0),
      relative: scale * (tolerance.relative ?? 0),
    });
  }
}

const shapes: Shape[] = [[5], [3, 7], [2, 64], [2, 3, 257], [5, 2560]];

test.for(addNormForward.settings())(
  "%o: at every shape both outputs and all gradients",
  async (setting, { device, random, skip }) => {
    if (!addNormForward.runsOn(device, setting)) skip(`${device.name} lacks a feature it needs`);
    for (const shape of shapes) {
      const point: Point = { shape, of: ["f32", "f32"], eps: 1e-6, needs: [true, true, true], uses: [true, true] };
      await addNormForward.with(setting, () => compare(random, point));
    }
  },
);

test("at 200 random shapes and dtypes it agrees with its reference, forward and backward", async ({ random }) => {
  const point = fc.record({
    shape: shapeOf(widths),
    of: dtypes,
    eps: fc.constantFrom(1e-2, 0.5),
    needs: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
    uses: fc.constantFrom<Uses>([true, true], [true, false], [false, true]),
  });
  await fc.assert(
    fc.asyncProperty(point, (one) => compare(random, one)),
    runs,
  );
});

test("one output alone leads back, and the weight of a y that nobody used gets zeros", async ({ random }) => {
  const [x, weight] = [requireGrad(random.normal([3, 8])), requireGrad(random.normal([8]))];
  const [, sum] = addNorm(x, random.normal([3, 8]), weight, { eps: 1e-6 });
  const [dx, dweight] = grad(sum.sum(), [x, weight]) as [Tensor, Tensor];
  await expect(dx).toBeClose(Array<number>(24).fill(1));
  await expect(dweight).toBeClose(Array<number>(8).fill(0));
});

test("the device of references runs the reference", async ({ random }) => {
  using plain = await openDevice({ kernels: "reference", notice: () => {} });
  const same = new Random(plain);
  const args = (from: Random) =>
    [from.normal([2, 12]), from.normal([2, 12]), from.normal([12]), { eps: 1e-6 }] as const;
  const [a, b] = [addNorm(...args(same)), addNorm(...args(random))];
  for (const i of [0, 1] as const) await expect(b[i]).toBeClose(await a[i].read(), { absolute: 1e-5 });
});

test("shapes that differ are refused, and no rows give nothing", ({ device, random }) => {
  const eps = 1e-6;
  expect(() => addNorm(random.normal([2, 4]), random.normal([4]), random.normal([4]), { eps })).toThrow(
    new ShapeError("addNorm: x is [2, 4], but residual is [4]"),
  );
  expect(() => addNorm(random.normal([2, 4]), random.normal([2, 4]), random.normal([3]), { eps })).toThrow(
    "weight is [3]",
  );
  expect(() => addNorm(zeros(device, [4], "i32"), random.normal([4]), random.normal([4]), { eps })).toThrow("x is i32");
  const empty = requireGrad(zeros(device, [0, 4]));
  const [y, sum] = addNorm(empty, zeros(device, [0, 4]), random.normal([4]), { eps });
  expect([print(y.shape), print(sum.shape)]).toEqual(["[0, 4]", "[0, 4]"]);
  expect(grad(y.sum(), [empty])[0]?.shape).toEqual([0, 4]);
});
