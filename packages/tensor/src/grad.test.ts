import { ShapeError } from "./errors.ts";
import { openDevice } from "./gpu/open-device.ts";
import { backward, checkpoint, grad } from "./grad.ts";
import { defineOp } from "./op.ts";
import { add, binary, mul, sub } from "./ops/binary.ts";
import { tensor, zeros } from "./ops/create.ts";
import { matmul } from "./ops/matmul.ts";
import { sum } from "./ops/reduce.ts";
import { reshape } from "./ops/reshape.ts";
import { unary } from "./ops/unary.ts";
import { dropout } from "./random/dropout.ts";
import { scope } from "./scope.ts";
import { isTaping, requireGrad, untaped } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import { expect, test } from "./testing.ts";

const only = ([first]: readonly Tensor[]): Tensor => first as Tensor;

/** The identity, which calls `seen` when a cotangent passes. */
const probe = defineOp<[x: Tensor], { readonly seen: () => void }>({
  name: "probe",
  forward: ([x]) => x,
  saves: { inputs: [false], output: false },
  vjp(_, { seen }, __, dy) {
    seen();
    return [dy];
  },
});

test("backward adds to .grad of every leaf, sweep after sweep", async ({ device }) => {
  const [x, w] = [requireGrad(tensor(device, [1, 2])), requireGrad(tensor(device, [3, 4]))];
  const constant = tensor(device, [5, 6]);
  expect(x.grad).toBeNull();
  backward(sum(mul(mul(x, w), constant)));
  await expect(x.grad as Tensor).toBeClose([15, 24]);
  await expect(w.grad as Tensor).toBeClose([5, 12]);
  backward(sum(unary.square(x)));
  await expect(x.grad as Tensor).toBeClose([17, 28]);
  await expect(w.grad as Tensor).toBeClose([5, 12]);
  expect(constant.grad).toBeNull();
});

test("grad gives gradients in the order asked for and leaves .grad alone", async ({ device }) => {
  const [x, w] = [requireGrad(tensor(device, [1, 2])), requireGrad(tensor(device, [3, 4]))];
  const inner = mul(x, w);
  const y = sum(unary.square(inner));
  const [dInner, dw, dx, dy] = grad(y, [inner, w, x, y]) as [Tensor, Tensor, Tensor, Tensor];
  await expect(dInner).toBeClose([6, 16]);
  await expect(dw).toBeClose([6, 32]);
  await expect(dx).toBeClose([18, 64]);
  await expect(dy).toBeClose({ shape: [], values: [1] });
  expect([x.grad, w.grad, inner.grad]).toEqual([null, null, null]);
});

test("a leaf asked for twice, or as the result itself, has its gradient", async ({ device }) => {
  const x = requireGrad(tensor(device, 3));
  for (const dx of grad(unary.square(x), [x, x])) await expect(dx).toBeClose({ shape: [], values: [6] });
  await expect(only(grad(x, [x]))).toBeClose({ shape: [], values: [1] });
});

test("a cotangent stands for the loss that comes after", async ({ device }) => {
  const x = requireGrad(tensor(device, [1, 2, 3]));
  const y = unary.square(x);
  const cotangent = tensor(device, [1, 10, 100]);
  await expect(only(grad(y, [x], { cotangent, retain: true }))).toBeClose([2, 40, 600]);
  await expect(only(grad(sum(mul(y, cotangent)), [x]))).toBeClose([2, 40, 600]);
});

test("retained, the tape is swept as often as wanted, each time with its own cotangent", async ({ device }) => {
  const x = requireGrad(tensor(device, [0.5, 1]));
  const y = unary.exp(unary.square(x));
  const slope = [0.5, 1].map((v) => 2 * v * Math.exp(v * v));
  for (const factor of [1, -3, 0]) {
    const cotangent = tensor(device, [factor, factor]);
    const want = slope.map((v) => v * factor);
    await expect(only(grad(y, [x], { cotangent, retain: true }))).toBeClose(want, { relative: 1e-5 });
  }
  backward(sum(y), { retain: true });
  backward(sum(y));
  await expect(x.grad as Tensor).toBeClose(
    slope.map((v) => 2 * v),
    { relative: 1e-5 },
  );
});

test("paths that part and meet again add up", async ({ device }) => {
  const x = requireGrad(tensor(device, [0.3, -1.2]));
  const a = unary.sin(x);
  const b = unary.square(x);
  const y = add(mul(a, b), add(mul(a, a), x)); // x² sin x + sin² x + x
  const want = [0.3, -1.2].map((v) => 2 * v * Math.sin(v) + v * v * Math.cos(v) + 2 * Math.sin(v) * Math.cos(v) + 1);
  await expect(only(grad(sum(y), [x]))).toBeClose(want, { absolute: 1e-5 });
  // A ladder of diamonds has 2³⁰ paths and 60 nodes.
  let z: Tensor = x;
  for (let i = 0; i < 30; i++) z = mul(add(z, z), 0.5);
  await expect(only(grad(sum(z), [x]))).toBeClose([1, 1]);
});

test("one leaf used 2,000 times gathers every gradient", async ({ device }) => {
  const x = requireGrad(tensor(device, [2]));
  const y = scope(() => {
    let total: Tensor = zeros(device, [1]);
    for (let i = 0; i < 2000; i++) total = add(total, x);
    return total;
  });
  await expect(only(grad(y, [x]))).toBeClose([2000]);
});

test("a chain of 5,000 ops is walked, and dropped, without recursion", async () => {
  using device = await openDevice({ notice: () => {} }); // its own: others' garbage would change what is live
  const x = requireGrad(tensor(device, [1, 2, 3]));
  const { live } = device.memory();
  const chain = (): Tensor =>
    scope(() => {
      let y: Tensor = x;
      for (let i = 0; i < 5000; i++) y = i % 2 ? mul(y, 1.0001) : add(y, 0.001);
      return y;
    });
  const swept = scope(() => only(grad(sum(chain()), [x])));
  await expect(swept).toBeClose({ shape: [3], values: Array(3).fill(1.0001 ** 2500) as number[] }, { relative: 1e-3 });
  swept.dispose();
  chain().dispose();
  expect(device.memory().live).toBe(live);
});

test("a leaf gets gradients only along paths that the tape recorded", async ({ device }) => {
  const x = requireGrad(tensor(device, [1, 2]));
  expect(isTaping()).toBe(true);
  const hidden = untaped(() => {
    expect(isTaping()).toBe(false);
    return unary.square(x);
  });
  expect(hidden.requiresGrad).toBe(false);
  expect(() =>
    untaped(() => {
      throw new Error("mine");
    }),
  ).toThrow("mine");
  expect(() => untaped(async () => await x.read())).toThrow("untaped: its function is asynchronous");
  expect(isTaping()).toBe(true);
  const detached = x.alias();
  expect(detached.requiresGrad).toBe(false);
  const y = sum(add(mul(x, detached), hidden));
  await expect(only(grad(y, [x]))).toBeClose([1, 2]); // as if the other factor were a constant
  // A detached tensor may become a leaf of its own.
  const leaf = requireGrad(x.alias());
  await expect(only(grad(sum(unary.square(leaf)), [leaf]))).toBeClose([2, 4]);
});

test("only what leads to the tensors asked for is computed", ({ device }) => {
  const [x, w] = [requireGrad(tensor(device, [1, 2])), requireGrad(tensor(device, [3, 4]))];
  const passed: string[] = [];
  const seen = (name: string) => ({ seen: () => void passed.push(name) });
  const y = sum(mul(probe(unary.exp(x), seen("x")), probe(unary.exp(w), seen("w"))));
  grad(y, [x], { retain: true });
  expect(passed).toEqual(["x"]);
  backward(y);
  expect(passed.toSorted()).toEqual(["w", "x", "x"]);
});

test("what a gradient needs is freed as soon as it was used, unless it is retained", async () => {
  using device = await openDevice({ notice: () => {} }); // its own: others' garbage would change what is live
  const n = 1000;
  const x = requireGrad(zeros(device, [n]));
  const before = device.memory().live;
  for (const retain of [true, false]) {
    const lives: number[] = [];
    const seen = (): void => void lives.push(device.memory().live);
    const y = scope(() => {
      let y: Tensor = x;
      for (let i = 0; i < 10; i++) y = probe(unary.exp(unary.sin(y)), { seen });
      return sum(y);
    });
    const held = before + 10 * 4 * n + 4; // what each exp gave, which all but the last sin took, and the sum
    expect(device.memory().live).toBe(held);
    scope(() => void grad(y, [x], { retain }));
    const drops = lives.slice(1).map((live, i) => (lives[i] as number) - live);
    expect(drops.slice(1)).toEqual(Array(8).fill(retain ? 0 : 4 * n));
    expect(device.memory().live).toBe(retain ? held : before + 4);
    y.dispose();
    expect(device.memory().live).toBe(before);
  }
});

test("a result that is dropped takes its tape along", async () => {
  using device = await openDevice({ notice: () => {} }); // its own: others' garbage would change what is live
  const x = requireGrad(zeros(device, [100]));
  const { live } = device.memory();
  scope(() => void unary.exp(unary.sin(unary.square(x))));
  expect(device.memory().live).toBe(live);
  const y = scope(() => unary.exp(unary.sin(unary.square(x))));
  const z = scope(() => unary.exp(y));
  expect(device.memory().live).toBeGreaterThan(live);
  y.dispose(); // z still needs what sin and both exp saved
  expect(device.memory().live).toBe(live + 3 * 400);
  z.dispose();
  expect(device.memory().live).toBe(live);
});

test("checkpoint gives the same gradients and runs its function again on the way back", async ({ random }) => {
  const [x, w, b] = [random.normal([3, 4]), random.normal([4, 4]), random.normal([4])].map((t) => requireGrad(t));
  let runs = 0;
  // w is an input, b is captured.
  const block = (h: Tensor, w: Tensor): Tensor => {
    runs++;
    return unary.tanh(add(matmul(h, w), b as Tensor));
  };
  const loss = (wrap: typeof block): Tensor => {
    let h = x as Tensor;
    for (let i = 0; i < 3; i++) h = wrap(h, w as Tensor);
    return sum(unary.square(h));
  };
  const leaves = [x, w, b] as Tensor[];
  const plain = loss(block);
  const want = grad(plain, leaves);
  expect(runs).toBe(3);
  const again = loss((h, w) => checkpoint(block, h, w));
  expect(runs).toBe(6);
  await expect(again).toBeClose(plain);
  const got = grad(again, leaves);
  expect(runs).toBe(9);
  for (const [i, g] of got.entries()) await expect(g).toBeClose(want[i] as Tensor, { absolute: 1e-6, relative: 1e-6 });
  backward(loss((h, w) => checkpoint(block, h, w)));
  for (const [i, leaf] of leaves.entries()) {
    await expect(leaf.grad as Tensor).toBeClose(want[i] as Tensor, { absolute: 1e-6, relative: 1e-6 });
  }
});

test("checkpoints nest, share captured tensors, and may capture what came before them", async ({ device }) => {
  const x = requireGrad(tensor(device, [0.4, -0.7]));
  const plain = (): Tensor => {
    const early = unary.sin(x);
    const inner = mul(unary.tanh(mul(early, x)), early);
    return sum(add(unary.square(inner), mul(inner, early)));
  };
  const nested = (): Tensor => {
    const early = unary.sin(x);
    const outer = checkpoint((a) => {
      const inner = checkpoint((b) => mul(unary.tanh(mul(b, x)), early), a);
      return add(unary.square(inner), mul(inner, early));
    }, early);
    return sum(outer);
  };
  const want = only(grad(plain(), [x]));
  await expect(only(grad(nested(), [x]))).toBeClose(want, { relative: 1e-5 });
  const y = nested();
  for (const retain of [true, false]) await expect(only(grad(y, [x], { retain }))).toBeClose(want, { relative: 1e-5 });
  backward(nested());
  await expect(x.grad as Tensor).toBeClose(want, { relative: 1e-5 });
});

test("a checkpoint draws the same dropout again", async ({ device }) => {
  const x = requireGrad(tensor(device, new Float32Array(1000).fill(1)));
  const y = checkpoint((t) => dropout(t, 0.5, 9), x);
  expect(await only(grad(sum(y), [x])).read()).toEqual(await y.read());
});

test("a checkpoint of parameters alone, or untaped, is the function itself", async ({ device }) => {
  const w = requireGrad(tensor(device, [2, 3]));
  await expect(only(grad(sum(checkpoint(() => unary.square(w))), [w]))).toBeClose([4, 6]);
  const y = untaped(() => checkpoint((a) => unary.square(a), w));
  expect(y.requiresGrad).toBe(false);
  await expect(y).toBeClose([4, 9]);
});

test("checkpointed blocks need less memory at their peak, and leave none behind", async () => {
  const peak = async (wrap: (f: (x: Tensor) => Tensor, x: Tensor) => Tensor): Promise<number> => {
    using device = await openDevice({ notice: () => {} });
    const x = requireGrad(zeros(device, [1000]));
    const block = (h: Tensor): Tensor => {
      let y = h;
      for (let i = 0; i < 8; i++) y = unary.sin(y);
      return y;
    };
    const dx = scope(() => {
      let h: Tensor = x;
      for (let i = 0; i < 8; i++) h = scope(() => wrap(block, h));
      return only(grad(sum(h), [x]));
    });
    await expect(dx).toBeClose({ shape: [1000], values: Array(1000).fill(1) as number[] });
    expect(device.memory().live).toBe(2 * 4000);
    return device.memory().peak / 4000;
  };
  const whole = await peak((f, x) => f(x));
  const saved = await peak((f, x) => checkpoint(f, x));
  expect(whole).toBeGreaterThan(64);
  expect(saved).toBeLessThan(24);
});

test("what cannot be differentiated is refused by name", ({ device }) => {
  const x = requireGrad(tensor(device, [1, 2]));
  const constant = tensor(device, [1, 2]);
  const y = sum(unary.square(x));
  expect(() => grad(y, [constant])).toThrow(/grad: wrt\[0\] \[2\] requires no gradient/);
  expect(() => grad(y, [requireGrad(tensor(device, [1]))])).toThrow(/no path leads from the result to wrt\[0\] \[1\]/);
  expect(() => backward(sum(constant))).toThrow(/came from nothing that requires a gradient/);
  expect(() => backward(unary.square(x))).toThrow(/the result \[2\] is not one number; pass its cotangent/);
  for (const cotangent of [tensor(device, [1]), tensor(device, [1, 2], { dtype: "i32" })]) {
    expect(() => grad(unary.square(x), [x], { cotangent })).toThrow(ShapeError);
  }
  expect(() => requireGrad(tensor(device, [1, 2], { dtype: "i32" }))).toThrow("[2] is i32; only floats");
  expect(grad(sum(reshape(sub(x, binary.div(x, 2)), [2, 1])), [])).toEqual([]);
});
