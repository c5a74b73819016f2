import { ShapeError, UsageError, WeightError } from "../errors.ts";
import { openDevice } from "../gpu/open-device.ts";
import { backward, grad } from "../grad.ts";
import { assign, copy } from "../ops/assign.ts";
import { binary } from "../ops/binary.ts";
import { cast } from "../ops/cast.ts";
import { tensor, zeros } from "../ops/create.ts";
import { sum } from "../ops/reduce.ts";
import { unary } from "../ops/unary.ts";
import { scope } from "../scope.ts";
import { type Shape, size } from "../shape.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { expect, test } from "../testing.ts";
import { AdamW, type AdamWOptions } from "./adamw.ts";

/** AdamW in double precision, one parameter. */
class Reference {
  readonly p: Float64Array;
  readonly m: Float64Array;
  readonly v: Float64Array;
  t = 0;

  constructor(p: ArrayLike<number>) {
    this.p = Float64Array.from(p);
    this.m = new Float64Array(p.length);
    this.v = new Float64Array(p.length);
  }

  step(g: ArrayLike<number>, { lr, betas: [b1, b2], eps, weightDecay }: AdamWOptions): void {
    this.t++;
    for (let i = 0; i < this.p.length; i++) {
      const gi = g[i] as number;
      const m = b1 * (this.m[i] as number) + (1 - b1) * gi;
      const v = b2 * (this.v[i] as number) + (1 - b2) * gi * gi;
      const decayed = (this.p[i] as number) * (1 - lr * weightDecay);
      this.m[i] = m;
      this.v[i] = v;
      this.p[i] = decayed - ((lr / (1 - b1 ** this.t)) * m) / (Math.sqrt(v) / Math.sqrt(1 - b2 ** this.t) + eps);
    }
  }
}

const shapes: Shape[] = [[], [1], [3], [4], [5, 7], [64], [65], [2, 3, 4], [0], [257], [16, 16]];

test("AdamW agrees with double precision in 50 random configurations of several steps", async ({ device, random }) => {
  for (let run = 0; run < 50; run++) {
    const options = {
      lr: 10 ** -random.integer(1, 5),
      betas: [random.next() * 0.99, 0.8 + random.next() * 0.199] as [number, number],
      eps: 10 ** -random.integer(3, 10),
      weightDecay: random.next() < 0.3 ? 0 : random.next() * 0.5,
    };
    const mine = [0, 1].map(() => shapes[random.integer(0, shapes.length)] as Shape);
    const starts = mine.map((shape) => random.normals(size(shape)));
    const parameters = mine.map((shape, i) => tensor(device, starts[i] as Float32Array, { shape }));
    const references = starts.map((start) => new Reference(start));
    using optimizer = new AdamW(parameters, options);
    for (let step = 0; step < 5; step++) {
      const lr = options.lr * (step === 3 ? 0 : 1 + step);
      optimizer.lr = lr;
      const gradients = mine.map((shape) => random.normals(size(shape), 10 ** random.integer(-3, 2)));
      const given = mine.map((shape, i) => tensor(device, gradients[i] as Float32Array, { shape }));
      optimizer.step(given);
      for (const [i, reference] of references.entries()) {
        reference.step(gradients[i] as Float32Array, { ...options, lr });
      }
    }
    for (const [i, { p, m, v }] of references.entries()) {
      const scale = 1e-6 + 2e-6 * options.lr * 20;
      await expect(parameters[i] as Tensor).toBeClose(
        { shape: mine[i] as Shape, values: p },
        { absolute: scale, relative: 1e-6 },
      );
      const saved = optimizer.stateDict().state[i] as Record<string, Tensor>;
      await expect(saved["exp_avg"] as Tensor).toBeClose(m, {
        absolute: 1e-6 * Math.sqrt(Math.max(0, ...v)),
        relative: 1e-6,
      });
      await expect(saved["exp_avg_sq"] as Tensor).toBeClose(v, { relative: 2e-6 });
      expect(saved["step"]).toBe(5);
    }
  }
});

test("groups have their own numbers, and the learning rate of all can be set at once", async ({ device, random }) => {
  const start = random.normals(6);
  const gradient = random.normals(6);
  const [a, b] = [tensor(device, start), tensor(device, start)];
  const optimizer = new AdamW(
    [
      { parameters: [a], weightDecay: 0 },
      { parameters: [b], lr: 0.3, betas: [0.5, 0.6], eps: 1e-3 },
    ],
    { lr: 0.1, weightDecay: 0.2 },
  );
  const [ra, rb] = [new Reference(start), new Reference(start)];
  optimizer.step([tensor(device, gradient), tensor(device, gradient)]);
  ra.step(gradient, { lr: 0.1, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 });
  rb.step(gradient, { lr: 0.3, betas: [0.5, 0.6], eps: 1e-3, weightDecay: 0.2 });
  await expect(a).toBeClose(ra.p, { absolute: 1e-6 });
  await expect(b).toBeClose(rb.p, { absolute: 1e-6 });
  expect(optimizer.lr).toBe(0.1);
  optimizer.lr = 0.05;
  expect(optimizer.groups.map(({ lr }) => lr)).toEqual([0.05, 0.05]);
});

test("parameters of one grain share dispatches, as many as the adapter's bindings allow", async ({
  device,
  random,
}) => {
  const shapes: Shape[] = [...Array<Shape>(9).fill([4, 4]), [3], [5], [0], [7], [8]];
  const parameters = shapes.map((shape) => random.normal(shape));
  const gradients = shapes.map((shape) => random.normal(shape));
  using together = new AdamW(parameters);
  together.step(gradients);
  const before = device.dispatchCount;
  together.step(gradients);
  // By fours and what is left (or by twos, where bindings are few): 9 of vectors, 3 of single elements, 1 of vectors.
  const few = device.limits.maxStorageBuffersPerShaderStage < 16;
  expect(device.dispatchCount - before).toBe(few ? 5 + 2 + 1 : 3 + 2 + 1);
});

test("16-bit parameters of any length share dispatches, and their masters go the way of f32 parameters", async ({
  device,
  random,
}) => {
  const lengths = [1, 3, 4, 5, 8, 35, 64, 7];
  const starts = lengths.map((n) => random.normal([n], 1, "bf16"));
  const narrow = starts.map((start) => copy(start));
  const wide = starts.map((start) => copy(cast(start, "f32")));
  const [a, b] = [new AdamW(narrow), new AdamW(wide)];
  let dispatches = 0;
  for (let step = 0; step < 3; step++) {
    const gradients = lengths.map((n) => random.normal([n]));
    const before = device.dispatchCount;
    a.step(gradients);
    dispatches = device.dispatchCount - before;
    b.step(gradients);
  }
  expect(dispatches).toBe(4); // five bindings each: two at a time
  const { state } = a.stateDict();
  for (const [i, one] of wide.entries()) {
    const master = state[i]?.["master"] as Tensor;
    await expect(master).toBeClose(one);
    await expect(narrow[i] as Tensor).toBeClose(cast(one, "bf16"));
  }
  for (const optimizer of [a, b]) optimizer.dispose();
});

test("a gradient may be another parameter, which no dispatch could both read and change", async ({ device }) => {
  const [a, b] = [tensor(device, [1, 2, 3, 4]), tensor(device, [5, 6, 7, 8])];
  using optimizer = new AdamW([a, b], { lr: 0.5, weightDecay: 0 });
  optimizer.step([tensor(device, [1, 1, 1, 1]), a]);
  await expect(a).toBeClose([0.5, 1.5, 2.5, 3.5], { absolute: 1e-5 });
  await expect(b).toBeClose([4.5, 5.5, 6.5, 7.5], { absolute: 1e-5 });
});

test("step reads .grad, skips parameters without one, and zeroGrad takes them away", async ({ device }) => {
  const [a, b] = [requireGrad(tensor(device, [1, 2])), requireGrad(tensor(device, [3, 4]))];
  const optimizer = new AdamW([a, b], { lr: 0.1, weightDecay: 0.5 });
  backward(sum(unary.square(a)));
  optimizer.step();
  await expect(b).toBeClose([3, 4]); // not even decayed
  expect(Object.keys(optimizer.stateDict().state)).toEqual(["0"]);
  const before = await a.read();
  optimizer.zeroGrad();
  expect(a.grad).toBeNull();
  optimizer.step();
  expect(await a.read()).toEqual(before);
  optimizer.step([null, zeros(device, [2])]);
  expect((optimizer.stateDict().state[1] as { step: number }).step).toBe(1);
  await expect(b).toBeClose([2.85, 3.8], { relative: 1e-6 }); // decay alone
});

test("a bf16 or f16 parameter follows its f32 master, rounded, where bf16 alone would stand still", async ({
  device,
}) => {
  for (const dtype of ["bf16", "f16"] as const) {
    for (const n of [1, 2, 7, 64]) {
      const start = Float32Array.from({ length: n }, (_, i) => 1 + i / 4);
      const parameter = tensor(device, start, { dtype });
      const reference = new Reference(start);
      using optimizer = new AdamW([parameter], { lr: 1e-4, weightDecay: 0 });
      const gradient = Float32Array.from({ length: n }, (_, i) => 1 + i);
      for (let step = 0; step < 60; step++) {
        scope(() => optimizer.step([tensor(device, gradient, { dtype: step % 2 ? dtype : "f32" })]));
        reference.step(gradient, { lr: 1e-4, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 });
      }
      const { master } = optimizer.stateDict().state[0] as Record<string, Tensor>;
      expect((master as Tensor).dtype).toBe("f32");
      await expect(master as Tensor).toBeClose({ shape: [n], values: reference.p }, { absolute: 1e-5, relative: 4e-6 });
      const rounded = tensor(device, Float32Array.from(await (master as Tensor).read()), { dtype });
      expect(await parameter.read()).toEqual(await rounded.read());
      expect((await parameter.read())[0]).toBeLessThan(1); // one step of 1e-4 is below the spacing of bf16 at 1
    }
  }
});

test("a value assigned to a 16-bit parameter between steps is taken over", async ({ device }) => {
  const parameter = tensor(device, [1, 2, 3], { dtype: "bf16" });
  const optimizer = new AdamW([parameter], { lr: 0.5, weightDecay: 0 });
  optimizer.step([tensor(device, [1, 1, 1])]);
  await expect(parameter).toBeClose([0.5, 1.5, 2.5], { absolute: 1e-2 });
  assign(parameter, tensor(device, [10, 20, 30]));
  optimizer.step([tensor(device, [1, 1, 1])]);
  await expect(parameter).toBeClose([9.5, 19.5, 29.5], { relative: 2 ** -8 });
  // Also when a step without it lies in between.
  assign(parameter, tensor(device, [1, 2, 3]));
  optimizer.step([null]);
  optimizer.step([tensor(device, [1, 1, 1])]);
  await expect(parameter).toBeClose([0.5, 1.5, 2.5], { relative: 2 ** -8 });
});

test("parameters that are rows of one memory are trained as if they were apart", async ({ device, random }) => {
  for (const dtype of ["f32", "bf16"] as const) {
    const start = random.normals(4 * 128);
    const whole = tensor(device, start, { shape: [4, 128], dtype });
    const rows = [whole.rows(0, 2), whole.rows(2, 4)];
    const apart = tensor(device, start, { shape: [4, 128], dtype });
    const [a, b] = [new AdamW(rows, { lr: 1e-4 }), new AdamW([apart], { lr: 1e-4 })];
    for (let step = 0; step < 30; step++) {
      const g = random.normal([4, 128]);
      a.step([g.rows(0, 2), g.rows(2, 4)]);
      b.step([g]);
    }
    expect(await whole.read()).toEqual(await apart.read());
    expect(() => new AdamW([whole, rows[0] as Tensor])).toThrow(/parameter 1 \[2, 128\] is given twice/);
  }
});

test("what was saved goes on bit for bit in another optimizer, 16-bit masters included", async ({ device, random }) => {
  const start = random.normals(37);
  const gradients = Array.from({ length: 6 }, () => random.normals(37));
  const make = (dtype: "f32" | "bf16"): Tensor => tensor(device, start, { dtype });
  for (const dtype of ["f32", "bf16"] as const) {
    const [whole, first] = [make(dtype), make(dtype)];
    const [a, b] = [new AdamW([whole], { lr: 0.01 }), new AdamW([first], { lr: 0.01 })];
    for (const g of gradients) a.step([tensor(device, g)]);
    for (const g of gradients.slice(0, 3)) b.step([tensor(device, g)]);
    const second = tensor(device, Float32Array.from(await first.read()), { dtype });
    const c = new AdamW([{ parameters: [second] }], { lr: 7, betas: [0, 0] });
    c.loadStateDict(b.stateDict());
    b.dispose();
    expect(c.lr).toBe(0.01);
    for (const g of gradients.slice(3)) c.step([tensor(device, g)]);
    expect(await second.read()).toEqual(await whole.read());
    expect((c.stateDict().state[0] as { step: number }).step).toBe(6);
  }
});

test("the saved state has PyTorch's names", ({ device }) => {
  const [a, b] = [zeros(device, [2]), zeros(device, [3])];
  const optimizer = new AdamW([{ parameters: [a], weightDecay: 0 }, { parameters: [b] }], { lr: 0.5 });
  optimizer.step([zeros(device, [2]), zeros(device, [3])]);
  const { state, param_groups } = optimizer.stateDict();
  expect(param_groups).toEqual([
    { lr: 0.5, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0, params: [0] },
    { lr: 0.5, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, params: [1] },
  ]);
  expect(Object.keys(state)).toEqual(["0", "1"]);
  expect(Object.keys(state[1] as object)).toEqual(["step", "exp_avg", "exp_avg_sq"]);
});

test("a state that belongs to something else is refused, and nothing is changed", ({ device }) => {
  const a = zeros(device, [2]);
  const optimizer = new AdamW([a]);
  optimizer.step([zeros(device, [2])]);
  const saved = optimizer.stateDict();
  const [group] = saved.param_groups;
  const one = saved.state[0] as Record<string, Tensor | number>;
  const wrong: [object, RegExp][] = [
    [{ ...saved, param_groups: [] }, /0 groups were saved, there are 1/],
    [{ ...saved, param_groups: [{ ...group, params: [0, 1] }] }, /saved with 2 parameters, it has 1/],
    [{ ...saved, param_groups: [{ ...group, amsgrad: true }] }, /amsgrad, which is not supported/],
    [{ ...saved, param_groups: [{ lr: 1, params: [0] }] }, /without betas/],
    [{ ...saved, param_groups: [{ ...group, betas: 0.9 }] }, /betas are 0.9, not two/],
    [{ ...saved, param_groups: [{ ...group, betas: [0.9] }] }, /betas are 0.9, not two/],
    [{ ...saved, state: { 0: { ...one, exp_avg: zeros(device, [3]) } } }, /exp_avg is \[3\], the parameter \[2\]/],
    [{ ...saved, state: { 0: { ...one, max_exp_avg_sq: a } } }, /max_exp_avg_sq is not among/],
    [{ ...saved, state: { 0: { ...one, step: 0.5 } } }, /step is 0.5/],
  ];
  for (const [state, message] of wrong) {
    const load = (): void => optimizer.loadStateDict(state as typeof saved);
    expect(load).toThrow(WeightError);
    expect(load).toThrow(message);
  }
  expect((optimizer.stateDict().state[0] as { step: number }).step).toBe(1);
});

test("mistakes are refused by name before anything changes", ({ device, random }) => {
  const a = zeros(device, [2]);
  expect(() => new AdamW([])).toThrow(/AdamW: it has no parameters/);
  expect(() => new AdamW([a, a])).toThrow(/parameter 1 \[2\] is given twice/);
  expect(() => new AdamW([a, a.alias([1, 2])])).toThrow(UsageError);
  expect(() => new AdamW([random.integers([2], 0, 5)])).toThrow(/parameter 0 \[2\] is i32, not a float/);
  expect(() => new AdamW([a], { lr: -1 })).toThrow(/lr is -1/);
  expect(() => new AdamW([a], { betas: [0.9, 1] })).toThrow(/betas are 0.9,1, not two/);
  expect(() => new AdamW([a], { eps: Number.NaN })).toThrow(UsageError);
  const optimizer = new AdamW([a]);
  expect(() => optimizer.step([])).toThrow(/0 gradients for 1 parameters/);
  expect(() => optimizer.step([zeros(device, [3])])).toThrow(ShapeError);
  optimizer.lr = Number.NaN;
  expect(() => optimizer.step([zeros(device, [2])])).toThrow(/lr is NaN/);
});

test("a backward that saved a parameter says so after a step has changed it", ({ device }) => {
  const w = requireGrad(tensor(device, [1, 2]));
  const optimizer = new AdamW([w]);
  const y = sum(unary.square(w));
  optimizer.step(grad(y, [w], { retain: true }));
  expect(() => backward(y)).toThrow(/saved was changed in place/);
});

test("steps leave no memory behind", async () => {
  using device = await openDevice({ notice: () => {} }); // its own: others' garbage would change what is live
  const w = requireGrad(zeros(device, [5]));
  const narrow = requireGrad(zeros(device, [5], "bf16"));
  using optimizer = new AdamW([w, narrow]);
  const step = (): void =>
    scope(() => {
      backward(sum(binary.mul(binary.add(w, 1), narrow)));
      optimizer.step();
      optimizer.zeroGrad();
    });
  step();
  const { live } = device.memory();
  for (let i = 0; i < 20; i++) step();
  expect(device.memory().live).toBe(live);
  optimizer.dispose();
  expect(device.memory().live).toBe(live - 5 * 4 * 5); // two moments each and one master
});
