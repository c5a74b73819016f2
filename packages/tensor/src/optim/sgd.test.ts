import { ShapeError } from "../errors.ts";
import { tensor, zeros } from "../ops/create.ts";
import { scope } from "../scope.ts";
import { type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { expect, test } from "../testing.ts";
import { SGD, type SgdOptions } from "./sgd.ts";

/** SGD in double precision, one parameter. */
class Reference {
  readonly p: Float64Array;
  buffer: Float64Array | undefined;

  constructor(p: ArrayLike<number>) {
    this.p = Float64Array.from(p);
  }

  step(g: ArrayLike<number>, { lr, momentum, dampening, nesterov, weightDecay }: SgdOptions): void {
    const d = Float64Array.from(g, (gi, i) => gi + weightDecay * (this.p[i] as number));
    const before = this.buffer;
    const buffer = before
      ? before.map((b, i) => momentum * b + (1 - dampening) * (d[i] as number))
      : Float64Array.from(d);
    if (momentum !== 0) this.buffer = buffer;
    for (let i = 0; i < d.length; i++) {
      const [di, b] = [d[i] as number, buffer[i] as number];
      this.p[i] = (this.p[i] as number) - lr * (momentum === 0 ? di : nesterov ? di + momentum * b : b);
    }
  }
}

const shapes: Shape[] = [[], [1], [3], [4], [5, 7], [64], [65], [2, 3, 4], [0], [257], [16, 16]];

test("SGD agrees with double precision in 50 random configurations of several steps", async ({ device, random }) => {
  for (let run = 0; run < 50; run++) {
    const nesterov = run % 5 === 4;
    const options = {
      lr: 10 ** -random.integer(1, 4),
      momentum: run % 3 === 0 && !nesterov ? 0 : 0.1 + random.next() * 0.9,
      dampening: nesterov || run % 2 === 0 ? 0 : random.next(),
      nesterov,
      weightDecay: random.next() < 0.3 ? 0 : random.next(),
    };
    const mine = [0, 1].map(() => shapes[random.integer(0, shapes.length)] as Shape);
    const starts = mine.map((shape) => random.normals(size(shape)));
    const parameters = mine.map((shape, i) => tensor(device, starts[i] as Float32Array, { shape }));
    const references = starts.map((start) => new Reference(start));
    using optimizer = new SGD(parameters, options);
    for (let step = 0; step < 5; step++) {
      const lr = options.lr * (step === 3 ? 0 : 1 + step);
      optimizer.lr = lr;
      const gradients = mine.map((shape) => random.normals(size(shape)));
      optimizer.step(mine.map((shape, i) => tensor(device, gradients[i] as Float32Array, { shape })));
      for (const [i, reference] of references.entries()) {
        reference.step(gradients[i] as Float32Array, { ...options, lr });
      }
    }
    for (const [i, { p, buffer }] of references.entries()) {
      const label = JSON.stringify(options);
      await expect(parameters[i] as Tensor, label).toBeClose(
        { shape: mine[i] as Shape, values: p },
        { absolute: 3e-6 },
      );
      const { momentum_buffer } = optimizer.stateDict().state[i] as Record<string, Tensor>;
      if (buffer) await expect(momentum_buffer as Tensor, label).toBeClose(buffer, { absolute: 3e-6 });
      else expect(momentum_buffer).toBeUndefined();
    }
  }
});

test("momentum begins with the whole gradient, dampened or not, also where it is switched on later", async ({
  device,
}) => {
  const w = tensor(device, [0]);
  const optimizer = new SGD([w], { lr: 1, dampening: 0.5 });
  const one = tensor(device, [1]);
  optimizer.step([one]);
  await expect(w).toBeClose([-1]);
  (optimizer.groups[0] as { momentum: number }).momentum = 0.5;
  optimizer.step([one]); // b = 1
  await expect(w).toBeClose([-2]);
  optimizer.step([one]); // b = 0.5 + 0.5
  await expect(w).toBeClose([-3]);
});

test("what was saved goes on bit for bit, whether there was a velocity yet or not", async ({ device, random }) => {
  const gradients = Array.from({ length: 5 }, () => random.normals(7));
  for (const split of [0, 1, 3]) {
    const [whole, half] = [zeros(device, [7]), zeros(device, [7])];
    const options = { lr: 0.1, momentum: 0.9, dampening: 0.3 };
    const [a, b, c] = [new SGD([whole], options), new SGD([half], options), new SGD([half])];
    for (const g of gradients) a.step([tensor(device, g)]);
    for (const g of gradients.slice(0, split)) b.step([tensor(device, g)]);
    c.loadStateDict(b.stateDict());
    for (const g of gradients.slice(split)) c.step([tensor(device, g)]);
    expect(await half.read()).toEqual(await whole.read());
  }
  // PyTorch saves an empty velocity as null.
  const w = zeros(device, [1]);
  const optimizer = new SGD([w], { momentum: 0.9 });
  const { param_groups } = optimizer.stateDict();
  optimizer.loadStateDict({ state: { 0: { momentum_buffer: null } }, param_groups });
  optimizer.lr = 1;
  optimizer.step([tensor(device, [1])]);
  await expect(w).toBeClose([-1]);
});

test("a bf16 parameter is stepped in f32 and rounded", async ({ device }) => {
  const w = tensor(device, [1, 1, 1], { dtype: "bf16" });
  const optimizer = new SGD([w], { lr: 1 });
  for (let i = 0; i < 100; i++) scope(() => optimizer.step([tensor(device, [1e-3, 0, -1e-3])]));
  await expect(w).toBeClose([0.9, 1, 1.1], { absolute: 4e-3 });
  const { master } = optimizer.stateDict().state[0] as Record<string, Tensor>;
  await expect(master as Tensor).toBeClose([0.9, 1, 1.1], { absolute: 1e-5 });
});

test("an infinite gradient gives an infinite step, not NaN", async ({ device }) => {
  const w = tensor(device, [0]);
  new SGD([w], { lr: 1, momentum: 0.5 }).step([tensor(device, [Number.POSITIVE_INFINITY])]);
  await expect(w).toBeClose([Number.NEGATIVE_INFINITY]);
});

test("mistakes are refused by name", ({ device }) => {
  const w = zeros(device, [2]);
  expect(() => new SGD([w], { nesterov: true })).toThrow(/SGD: nesterov needs momentum and no dampening/);
  expect(() => new SGD([w], { nesterov: true, momentum: 0.9, dampening: 0.1 })).toThrow(/nesterov/);
  expect(() => new SGD([w], { momentum: -1 })).toThrow(/momentum is -1/);
  expect(() => new SGD([w], { weightDecay: -1 })).toThrow(/weightDecay is -1/);
  expect(() => new SGD([w], { lr: Number.NaN })).toThrow(/lr is NaN/);
  expect(() => new SGD([w]).step([zeros(device, [3])])).toThrow(ShapeError);
});
