import fc from "fast-check";
import { anyDtype, counting, shapes, upload } from "../../test/tools/arrays.ts";
import { grad } from "../grad.ts";
import { size } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import "../methods.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { flatten, reshape, squeeze, unsqueeze } from "./reshape.ts";

test("200 random shapes take on others of their size, open at one axis or at none, and so do their gradients", async ({
  device,
}) => {
  const runs = fc.tuple(shapes(), fc.nat(5), fc.nat(5), fc.nat(5), anyDtype);
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, first, last, place, dtype]) => {
      const plain = counting(shape, dtype);
      const x = upload(device, plain, dtype);
      // Some neighbours joined, and a 1 put somewhere: another shape of the same size.
      const [begin, end] = [Math.min(first, last, shape.length), Math.min(Math.max(first, last) + 1, shape.length)];
      const to = shape.toSpliced(begin, end - begin, size(shape.slice(begin, end))).toSpliced(place, 0, 1);
      const y = reshape(x, to);
      expect([y.dtype, y.storage]).toEqual([dtype, x.storage]);
      await expect(y).toBeClose({ shape: to, values: plain.values });
      const open = place % to.length;
      if (size(to.toSpliced(open, 1)) > 0) expect(reshape(x, to.with(open, -1)).shape).toEqual(to);
      if (dtype !== "f32") return;
      requireGrad(x);
      const [dx] = grad(reshape(x, to), [x], { cotangent: upload(device, { shape: to, values: plain.values }) });
      await expect(dx as Tensor).toBeClose(plain);
    }),
    { numRuns: 200, seed: 51 },
  );
});

test("squeeze, unsqueeze and flatten change the axes they name", ({ device }) => {
  const x = upload(device, counting([1, 3, 1, 5]));
  expect(squeeze(x).shape).toEqual([3, 5]);
  expect(squeeze(x, 0).shape).toEqual([3, 1, 5]);
  expect(squeeze(x, -2, 0, 2).shape).toEqual([3, 5]);
  expect(squeeze(upload(device, counting([1, 1]))).shape).toEqual([]);
  expect(squeeze(upload(device, counting([1, 0]))).shape).toEqual([0]);
  expect([0, 2, 4, -1, -5].map((axis) => unsqueeze(x, axis).shape)).toEqual([
    [1, 1, 3, 1, 5],
    [1, 3, 1, 1, 5],
    [1, 3, 1, 5, 1],
    [1, 3, 1, 5, 1],
    [1, 1, 3, 1, 5],
  ]);
  expect(unsqueeze(upload(device, counting([])), 0).shape).toEqual([1]);
  expect(flatten(x).shape).toEqual([15]);
  expect(flatten(x, 1).shape).toEqual([1, 15]);
  expect(flatten(x, -3, -2).shape).toEqual([1, 3, 5]);
  expect(flatten(x, 1, 1).shape).toEqual([1, 3, 1, 5]);
  expect(flatten(upload(device, counting([]))).shape).toEqual([1]);
  expect(flatten(upload(device, counting([2, 0, 3])), 0, 1).shape).toEqual([0, 3]);
});

test("each has its slope for a gradient", async ({ random }) => {
  await checkGradients((x) => reshape(x, [5, -1]), [random.normal([3, 5, 2])]);
  await checkGradients((x) => squeeze(x, 1), [random.normal([3, 1, 2])]);
  await checkGradients((x) => unsqueeze(x, -1), [random.normal([3, 2])]);
  await checkGradients((x) => flatten(x, 1), [random.normal([3, 5, 2])]);
});

test("a mistake is told with the op and the shapes", ({ device }) => {
  const x = upload(device, counting([2, 3]));
  const message = (to: string): string => `reshape: [2, 3] has 6 elements and cannot become ${to}`;
  expect(() => reshape(x, [4])).toThrow(message("[4]"));
  expect(() => reshape(x, [4, -1])).toThrow(message("[4, -1]"));
  expect(() => reshape(x, [-1, -1])).toThrow(message("[-1, -1]"));
  expect(() => reshape(x, [0, -1])).toThrow(message("[0, -1]"));
  expect(() => reshape(x, [-2, -3])).toThrow(message("[-2, -3]"));
  expect(() => reshape(x, [])).toThrow(message("[]"));
  expect(() => reshape(upload(device, counting([0])), [0, -1])).toThrow("has 0 elements and cannot become [0, -1]");
  expect(() => squeeze(x, 1)).toThrow("squeeze: axis 1 of [2, 3] is not 1");
  expect(() => squeeze(x, 2)).toThrow("squeeze: there is no axis 2 in a tensor of rank 2");
  expect(() => unsqueeze(x, 3)).toThrow("unsqueeze: there is no axis 3");
  expect(() => flatten(x, 1, 0)).toThrow("flatten: axis 0 of [2, 3] comes before axis 1");
});

test("methods take shapes and axes one by one or as a list", async ({ device }) => {
  const x = upload(device, { shape: [1, 3], values: [1, 2, 3] });
  expect([x.reshape([3, -1]).shape, x.reshape(3, -1).shape]).toEqual([
    [3, 1],
    [3, 1],
  ]);
  await expect(x.permute([1, 0])).toBeClose(x.permute(1, 0), {});
  await expect(x.expand([2, 3])).toBeClose(x.expand(2, 3), {});
});
