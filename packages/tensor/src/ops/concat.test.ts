import fc from "fast-check";
import { anyDtype, at, build, counting, type Plain, shapes, upload } from "../../test/tools/arrays.ts";
import { isFloat } from "../dtype.ts";
import { grad } from "../grad.ts";
import { scope } from "../scope.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { add, mul } from "./binary.ts";
import { concat, split, stack } from "./concat.ts";
import { arange, tensor } from "./create.ts";
import { sum } from "./reduce.ts";

/** A shape, one of its axes, and into how long parts that axis falls. */
const runs = fc.tuple(
  shapes(4).filter((shape) => shape.length > 0),
  fc.nat(3),
  fc.array(fc.constantFrom(0, 1, 2, 3), { minLength: 1, maxLength: 5 }),
  anyDtype,
);

const added = (lengths: readonly number[]): number => lengths.reduce((a, b) => a + b, 0);

test("200 random joins and splits agree with their definition, undo each other, and so do their gradients", async ({
  device,
}) => {
  await fc.assert(
    fc.asyncProperty(runs, async ([some, which, lengths, dtype]) => {
      const axis = which % some.length;
      const shape = some.with(axis, added(lengths));
      const whole = counting(shape, dtype);
      const starts = lengths.map((_, i) => added(lengths.slice(0, i)));
      const plain = lengths.map((n, i): Plain =>
        build(shape.with(axis, n), (index) =>
          at(whole, index.with(axis, (index[axis] as number) + (starts[i] as number))),
        ),
      );
      const parts = plain.map((one) => upload(device, one, dtype));
      const y = concat(parts, axis - shape.length);
      expect(y.dtype).toBe(dtype);
      await expect(y).toBeClose(whole);
      const again = split(y, lengths, axis);
      await Promise.all(again.map((part, i) => expect(part).toBeClose(plain[i] as Plain)));
      if (!isFloat(dtype)) return;

      for (const part of parts) requireGrad(part);
      const gradients = grad(concat(parts, axis), parts, { cotangent: y });
      await Promise.all(gradients.map((dx, i) => expect(dx).toBeClose(plain[i] as Plain)));

      requireGrad(y);
      const pieces = split(y, lengths, axis);
      // The last part gets no cotangent at all.
      const used = pieces.slice(0, Math.max(1, pieces.length - 1));
      const total = used.map((piece, i) => sum(mul(piece, parts[i] as Tensor))).reduce((a, b) => add(a, b));
      const [dy] = grad(total, [y]);
      const end = starts[used.length] ?? Infinity;
      await expect(dy as Tensor).toBeClose(
        build(shape, (index) => ((index[axis] as number) < end ? at(whole, index) : 0)),
      );
    }),
    { numRuns: 200, seed: 41 },
  );
});

test("stack puts its tensors along a new axis, and so flow their gradients", async ({ device }) => {
  for (const shape of [[], [3], [2, 5], [2, 0, 3]]) {
    const plain = [0, 1, 2].map((i): Plain => ({ shape, values: counting(shape).values.map((v) => v + 100 * i) }));
    const parts = plain.map((one) => requireGrad(upload(device, one)));
    for (let axis = 0; axis <= shape.length; axis++) {
      const want = build([...shape.slice(0, axis), 3, ...shape.slice(axis)], (index) =>
        at(plain[index[axis] as number] as Plain, index.toSpliced(axis, 1)),
      );
      const y = stack(parts, axis - shape.length - 1);
      await expect(y).toBeClose(want);
      const gradients = grad(stack(parts, axis), parts, {
        cotangent: upload(device, want),
      });
      await Promise.all(gradients.map((dx, i) => expect(dx).toBeClose(plain[i] as Plain)));
    }
  }
});

test("the dtypes of the parts are promoted", async ({ device }) => {
  const ones = upload(device, { shape: [2], values: [1, 2] }, "i32");
  const halves = upload(device, { shape: [1], values: [0.5] }, "bf16");
  const y = concat([ones, halves]);
  expect(y.dtype).toBe("bf16");
  await expect(y).toBeClose([1, 2, 0.5]);
});

test("a part that is used twice gets both gradients", async ({ device }) => {
  const x = requireGrad(tensor(device, [1, 2]));
  const [dx] = grad(concat([x, x, x]), [x], { cotangent: tensor(device, [1, 2, 3, 4, 5, 6]) });
  await expect(dx as Tensor).toBeClose([9, 12]);
});

test("one number splits evenly, with a shorter part at the end", async ({ device }) => {
  const x = arange(device, 0, 7);
  const shapesOf = (each: number): number[] => split(x, each).map((part) => part.size);
  expect([shapesOf(3), shapesOf(7), shapesOf(9), shapesOf(1)]).toEqual([[3, 3, 1], [7], [7], [1, 1, 1, 1, 1, 1, 1]]);
  expect(split(upload(device, counting([0, 2])), 4).map((part) => part.shape)).toEqual([[0, 2]]);
  expect(split(upload(device, counting([0, 2])), [])).toEqual([]);
  await expect(split(x, 3)[2] as Tensor).toBeClose([6]);
});

test("joining and splitting have their slopes for gradients", async ({ random }) => {
  await checkGradients(
    (a, b, c) => concat([a, b, c], 1),
    [random.normal([2, 3]), random.normal([2, 1]), random.normal([2, 5])],
  );
  await checkGradients((a, b) => stack([a, b], -1), [random.normal([2, 3]), random.normal([2, 3])]);
  await checkGradients(
    (x) => {
      const [a, b, c] = split(x, 2, 1) as [Tensor, Tensor, Tensor];
      return add(mul(a, b), c);
    },
    [random.normal([3, 6])],
  );
});

test("no memory stays behind, whichever parts flow back", async ({ device }) => {
  const x = requireGrad(arange(device, 0, 12));
  const before = device.memory().live;
  scope(() => {
    const parts = split(x, 5);
    grad(sum(concat([parts[2] as Tensor, parts[0] as Tensor])), [x]);
    split(x, 4);
  });
  expect(device.memory().live).toBe(before);
});

test("more elements than 65,535 workgroups hold are all joined", async ({ device }) => {
  const n = 65_536 * 64 + 131;
  const x = arange(device, 0, n, 1, "i32");
  const values = await concat([x, x]).read();
  expect(values.every((v, i) => v === i % n)).toBe(true);
});

test("a mistake is told with the op and the shapes", ({ device }) => {
  const [a, b] = [upload(device, counting([2, 3])), upload(device, counting([2, 4]))];
  expect(() => concat([])).toThrow("concat: there is no tensor to put together");
  expect(() => concat([a, b])).toThrow("concat: tensor 1 is [2, 4], tensor 0 [2, 3]; they may differ in axis 0 alone");
  expect(() => concat([a, upload(device, counting([2]))])).toThrow("concat: tensor 1 is [2], tensor 0 [2, 3]");
  expect(() => concat([a], 2)).toThrow("concat: there is no axis 2 in a tensor of rank 2");
  expect(() => stack([])).toThrow("stack: there is no tensor to put together");
  expect(() => stack([a, b])).toThrow("stack: tensor 1 is [2, 4], tensor 0 [2, 3]");
  expect(() => split(a, [1, 1], 1)).toThrow("split: axis 1 of [2, 3] cannot be taken apart into [1, 1]");
  expect(() => split(a, [4, -1], -1)).toThrow("split: axis -1 of [2, 3] cannot be taken apart into [4, -1]");
  expect(() => split(a, 0)).toThrow("split: parts cannot be 0 long");
});
