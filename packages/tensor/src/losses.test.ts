import fc from "fast-check";
import { counting, shapes, upload } from "../test/tools/arrays.ts";
import { grad } from "./grad.ts";
import { cosineLoss, crossEntropy, huberLoss, klDivergence, meanSquaredError, stableSimilarity } from "./losses.ts";
import { tensor } from "./ops/create.ts";
import { unary } from "./ops/unary.ts";
import { size } from "./shape.ts";
import { requireGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import { checkGradients, expect, test } from "./testing.ts";

type Row = readonly number[];

const mean = (values: Row): number => values.reduce((a, b) => a + b, 0) / values.length;
const dot = (a: Row, b: Row): number => a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);

/** Vectors of the last axis. */
const rowsOf = (values: Row, width: number): Row[] =>
  width === 0 ? [] : Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));

function logSoftmax(row: Row): number[] {
  const top = Math.max(...row);
  const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return row.map((x) => x - top - total);
}

/** The losses in double precision, of flat arrays whose last axis is `width` and first `length`. */
const plain = {
  mse: (p: Row, t: Row): number => mean(p.map((x, i) => (x - (t[i] as number)) ** 2)),
  huber: (p: Row, t: Row, delta: number): number =>
    mean(
      p.map((x, i) => {
        const d = Math.abs(x - (t[i] as number));
        return d <= delta ? 0.5 * d * d : delta * (d - 0.5 * delta);
      }),
    ),
  kl(p: Row, t: Row, width: number, length: number): number {
    const targets = rowsOf(t, width).map(logSoftmax);
    const each = rowsOf(p, width).map((row, i) => {
      const target = targets[i] as Row;
      return dot(
        target.map(Math.exp),
        logSoftmax(row).map((x, k) => (target[k] as number) - x),
      );
    });
    return each.reduce((a, b) => a + b, 0) / length;
  },
  cosine(p: Row, t: Row, width: number): number {
    const pairs = rowsOf(p, width).map((row, i) => [row, rowsOf(t, width)[i] as Row] as const);
    const norm = (row: Row): number => Math.sqrt(dot(row, row));
    if (pairs.some((pair) => pair.some((row) => norm(row) < 1e-6))) return plain.mse(p, t);
    const limit = 1 - 1e-6;
    return mean(pairs.map(([a, b]) => 1 - Math.min(limit, Math.max(-limit, dot(a, b) / (norm(a) * norm(b))))));
  },
  stable: (p: Row, t: Row, width: number, length: number): number =>
    0.5 * plain.mse(p, t) + 0.3 * plain.cosine(p, t, width) + 0.2 * plain.kl(p, t, width, length),
};

const close = { absolute: 3e-6, relative: 3e-6 };

test("200 random shapes have the losses of double precision", async ({ device, random }) => {
  const runs = fc.tuple(
    shapes(3).filter((shape) => shape.length > 0 && size(shape) > 0),
    fc.constantFrom(0.1, 1, 3),
    fc.constantFrom(0.5, 1, 2),
    fc.nat(9),
    fc.nat(4),
  );
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, scale, delta, zeroed, turn]) => {
      const [width, length] = [shape.at(-1) as number, shape[0] as number];
      const [p, t] = [random.normals(size(shape), scale), random.normals(size(shape), scale)];
      // Now and then a vector without a direction.
      if (zeroed === 0) p.fill(0, 0, width);
      if (zeroed === 1) t.fill(0, t.length - width);
      const [a, b] = [p, t].map((values) => tensor(device, values, { shape })) as [Tensor, Tensor];
      const [P, T] = [[...p], [...t]];
      // The last one holds three of the others; they take turns beside it.
      const turns: (() => [Tensor, number])[] = [
        () => [meanSquaredError(a, b), plain.mse(P, T)],
        () => [huberLoss(a, b, { delta }), plain.huber(P, T, delta)],
        () => [huberLoss(a, b), plain.huber(P, T, 1)],
        () => [klDivergence(a, b), plain.kl(P, T, width, length)],
        () => [cosineLoss(a, b), plain.cosine(P, T, width)],
      ];
      const [got, want] = (turns[turn] as (typeof turns)[0])();
      await Promise.all([
        expect(got).toBeClose({ shape: [], values: [want] }, close),
        expect(stableSimilarity(a, b)).toBeClose({ shape: [], values: [plain.stable(P, T, width, length)] }, close),
      ]);
    }),
    { numRuns: 200, seed: 71 },
  );
});

test("200 random cross-entropies are the mean over the labels that count", async ({ device, random }) => {
  const runs = fc.tuple(
    shapes(2),
    fc.constantFrom(1, 2, 7, 65),
    fc.constantFrom(-100, -100, 0, 3),
    fc.constantFrom<"i32" | "u32">("i32", "u32"),
  );
  await fc.assert(
    fc.asyncProperty(runs, async ([shape, width, given, dtype]) => {
      const ignoreIndex = dtype === "u32" && given < 0 ? 1000 : given;
      const logits = random.normals(size(shape) * width, 3);
      const labels = Array.from({ length: size(shape) }, () =>
        random.next() < 0.3 ? ignoreIndex : random.integer(0, width),
      );
      const terms = rowsOf([...logits], width).flatMap((row, i) => {
        const label = labels[i] as number;
        return label === ignoreIndex ? [] : [-(logSoftmax(row)[label] as number)];
      });
      const loss = crossEntropy(
        tensor(device, logits, { shape: [...shape, width] }),
        upload(device, { shape, values: labels }, dtype),
        { ignoreIndex },
      );
      await expect(loss).toBeClose({ shape: [], values: [mean(terms)] }, close);
    }),
    { numRuns: 200, seed: 72 },
  );
});

test("every loss has its slope for a gradient, of prediction and target", async ({ device, random }) => {
  const shape = [2, 3, 5];
  const pair = (scale = 1): Tensor[] => [random.normal(shape, scale), random.normal(shape, scale)];
  await checkGradients(meanSquaredError, pair());
  await checkGradients((p, t) => huberLoss(p, t, { delta: 0.7 }), pair());
  await checkGradients(klDivergence, pair());
  await checkGradients(cosineLoss, pair());
  await checkGradients(stableSimilarity, pair());
  const labels = upload(device, { shape: [2, 3], values: [4, -100, 0, 1, -100, 4] }, "i32");
  await checkGradients((logits) => crossEntropy(logits, labels), [random.normal(shape)]);
});

test("with a vector shorter than 1e-6 anywhere, the cosine loss has the gradient of the mean squared error", async ({
  device,
}) => {
  for (const short of [
    [0, 0],
    [3e-7, -4e-7],
  ]) {
    for (const side of [0, 1]) {
      const sides = [
        [1, 2, ...short],
        [2, -1, 0.5, 3],
      ].toSorted(() => (side === 0 ? 1 : -1));
      const [p, t] = sides.map((row) => requireGrad(tensor(device, Float32Array.from(row), { shape: [2, 2] })));
      const wanted = [p, t] as [Tensor, Tensor];
      const want = grad(meanSquaredError(...wanted), wanted);
      const got = grad(cosineLoss(...wanted), wanted);
      for (const i of [0, 1]) await expect(got[i] as Tensor).toBeClose(want[i] as Tensor);
    }
  }
});

test("parallel and opposite vectors are clamped, and have no gradient", async ({ device }) => {
  const t = tensor(device, [
    [1, 2, -3],
    [0.5, 0, 4],
  ]);
  for (const [sign, want] of [
    [1, 1e-6],
    [-1, 2 - 1e-6],
  ] as const) {
    const p = requireGrad(
      tensor(device, [
        [2 * sign, 4 * sign, -6 * sign],
        [sign, 0, 8 * sign],
      ]),
    );
    const loss = cosineLoss(p, t);
    await expect(loss).toBeClose([want], { absolute: 1e-7 });
    const [dp] = grad(loss, [p]);
    await expect(dp as Tensor).toBeClose([0, 0, 0, 0, 0, 0]);
  }
});

test("Huber's slope is the sign far away, even at infinity, and 0 at the target", async ({ device }) => {
  const p = requireGrad(tensor(device, [Infinity, -Infinity, 5, -5, 0.5, 0]));
  const t = tensor(device, [0, 0, 0, 0, 0, 0]);
  await expect(huberLoss(p, t)).toBeClose([Infinity]);
  const [dp] = grad(huberLoss(p, t), [p]);
  await expect(dp as Tensor).toBeClose(
    [1, -1, 1, -1, 0.5, 0].map((v) => v / 6),
    { relative: 1e-6 },
  );
});

test("no labels that count give NaN and a gradient of 0, and a label out of range gives NaN", async ({ device }) => {
  const logits = requireGrad(
    tensor(device, [
      [1, 2, 3],
      [0, 0, 0],
    ]),
  );
  const loss = crossEntropy(logits, upload(device, { shape: [2], values: [-100, -100] }, "i32"));
  await expect(loss).toBeClose([NaN]);
  const [dx] = grad(loss, [logits]);
  await expect(dx as Tensor).toBeClose([0, 0, 0, 0, 0, 0]);
  for (const label of [3, -1]) {
    await expect(crossEntropy(logits, upload(device, { shape: [2], values: [0, label] }, "i32"))).toBeClose([NaN]);
  }
  await expect(crossEntropy(upload(device, counting([0, 3])), upload(device, counting([0]), "i32"))).toBeClose([NaN]);
});

test("a logit of −∞ is a token that cannot be: of the target it counts for nothing", async ({ device }) => {
  const p = requireGrad(tensor(device, [[0, 1, 2]]));
  const masked = tensor(device, [[1, 0, -Infinity]]);
  await expect(klDivergence(p, masked)).toBeClose([plain.kl([0, 1, 2], [1, 0, -80], 3, 1)], close);
  const [dp] = grad(klDivergence(p, masked), [p]);
  const [want] = grad(klDivergence(p, tensor(device, [[1, 0, -80]])), [p]);
  await expect(dp as Tensor).toBeClose(want as Tensor, { absolute: 1e-7 });
  const logits = requireGrad(tensor(device, [[0, -Infinity, 1]]));
  const loss = crossEntropy(logits, upload(device, { shape: [1], values: [2] }, "i32"));
  await expect(loss).toBeClose([Math.log(1 + Math.exp(-1))], close);
  const [dx] = grad(loss, [logits]);
  const share = 1 / (1 + Math.E);
  await expect(dx as Tensor).toBeClose([share, 0, -share], close);
});

test("NaN in a prediction is NaN in every loss", async ({ device }) => {
  const p = tensor(device, [
    [1, NaN],
    [2, 3],
  ]);
  const t = tensor(device, [
    [1, 2],
    [2, 1],
  ]);
  for (const loss of [meanSquaredError, huberLoss, klDivergence, cosineLoss, stableSimilarity]) {
    await expect(loss(p, t)).toBeClose([NaN]);
  }
  await expect(crossEntropy(p, upload(device, { shape: [2], values: [0, 1] }, "i32"))).toBeClose([NaN]);
});

test("16-bit predictions are compared in f32, and get gradients of their own dtype", async ({ device, random }) => {
  for (const dtype of ["bf16", "f16"] as const) {
    const p = requireGrad(random.normal([3, 8], 1, dtype));
    const t = random.normal([3, 8], 1, dtype);
    const [P, T] = [[...(await p.read())], [...(await t.read())]];
    const loss = stableSimilarity(p, t);
    expect(loss.dtype).toBe("f32");
    await expect(loss).toBeClose([plain.stable(P, T, 8, 3)], close);
    expect(grad(loss, [p])[0]?.dtype).toBe(dtype);
    const labels = upload(device, { shape: [3], values: [1, 7, 0] }, "i32");
    const want = mean(rowsOf(P, 8).map((row, i) => -(logSoftmax(row)[[1, 7, 0][i] as number] as number)));
    await expect(crossEntropy(p, labels)).toBeClose([want], close);
  }
});

test("a loss leaves nothing behind but itself", async ({ device, random }) => {
  const [p, t] = [random.normal([4, 6]), random.normal([4, 6])];
  const before = device.memory().live;
  for (const loss of [meanSquaredError, huberLoss, klDivergence, cosineLoss, stableSimilarity]) {
    const y = loss(p, t);
    expect(device.memory().live).toBe(before + 4);
    y.dispose();
  }
});

test("a mistake is told with the loss and the shapes", ({ device }) => {
  const [a, b] = [upload(device, counting([2, 3])), upload(device, counting([3, 2]))];
  expect(() => meanSquaredError(a, b)).toThrow("meanSquaredError: predicted is [2, 3], target [3, 2]");
  expect(() => huberLoss(a, unary.neg(b))).toThrow("huberLoss: predicted is [2, 3], target [3, 2]");
  expect(() => stableSimilarity(a, b)).toThrow("stableSimilarity: predicted is [2, 3], target [3, 2]");
  const scalar = upload(device, { shape: [], values: [1] });
  expect(() => klDivergence(scalar, scalar)).toThrow("klDivergence: it compares vectors, got scalars");
  const labels = upload(device, counting([3]), "i32");
  expect(() => crossEntropy(a, labels)).toThrow(
    "crossEntropy: labels are [3], which is not the shape of logits [2, 3] without its last axis",
  );
  expect(() => crossEntropy(b, upload(device, counting([3])))).toThrow(
    "gatherLast: indices [3] are f32, not i32 or u32",
  );
});
