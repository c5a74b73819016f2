import {
  binary,
  type BinaryName,
  compare,
  type CompareName,
  grad,
  requireGrad,
  tensor,
  type Tensor,
  unary,
  type UnaryName,
  zeros,
} from "@rot/tensor";
import type { Random } from "@rot/tensor/cases";
import { expect, test } from "@rot/tensor/testing";
import { agree } from "../../test/tools/agree.ts";
import { fusedCases } from "./fuse.cases.ts";
import type { Expression, Term } from "./expression.ts";
import { fuse, fusedOp } from "./fuse.ts";

for (const { op, cases } of fusedCases) {
  test.for(cases)("$name", async (one, { random }) => {
    const inputs = one.inputs(random);
    const { forward, vjp } = one.tolerance;
    const tolerance = { absolute: Math.max(forward, vjp), relative: Math.max(forward, vjp) };
    await agree(op, random, { inputs, params: undefined, needs: inputs.map(() => true), tolerance });
  });
}

/** Ops that a random chain may hold: all that neither jump nor leave the range of f32 in between. */
const calm: readonly UnaryName[] = [
  "neg",
  "square",
  "sigmoid",
  "silu",
  "tanh",
  "gelu",
  "geluTanh",
  "erf",
  "sin",
  "cos",
  "abs",
  "relu",
];
const pairs: readonly BinaryName[] = ["add", "sub", "mul", "maximum", "minimum"];
const tests: readonly CompareName[] = ["lt", "le", "gt", "ge", "ne", "eq"];

/** A random expression over some arguments, of up to six ops. */
function randomExpression(random: Random): (...args: Expression[]) => Expression {
  const plan = Array.from({ length: random.integer(1, 7) }, () => [0, 1, 2, 3].map(() => random.next()));
  return (...args) => {
    const made = [...args];
    const pick = (at: number): Expression => made[made.length - 1 - Math.floor(at * at * made.length)] as Expression;
    for (const [kind, a, b, c] of plan as [number, number, number, number][]) {
      const other: Term = c < 0.2 ? Math.round(40 * c - 4) / 2 : pick(c);
      if (kind < 0.45) made.push(pick(a)[calm[Math.floor(b * calm.length)] as UnaryName]());
      else if (kind < 0.9) made.push(pick(a)[pairs[Math.floor(b * pairs.length)] as BinaryName](other));
      else made.push(pick(a)[tests[Math.floor(b * tests.length)] as CompareName](0.25).where(pick(b), other));
    }
    // Every argument takes part.
    return args.reduce((sum, arg) => sum.add(arg.mul(0.5)), pick(0));
  };
}

test("60 random expressions over broadcast shapes agree with the ops one by one, forward and backward", async ({
  random,
}) => {
  const shapes = [[3, 4], [4], [1], [3, 1], [], [2, 1, 4], [5], [2, 3, 5], [1, 5], [7, 8]];
  for (let i = 0; i < 60; i++) {
    const base = shapes[random.integer(0, shapes.length)] as number[];
    const like = (): number[] =>
      base.slice(random.integer(0, base.length + 1)).map((n) => (random.next() < 0.3 ? 1 : n));
    const op =
      i % 3 === 0
        ? fusedOp(
            (
              (f) => (a: Expression) =>
                f(a)
            )(randomExpression(random)),
          )
        : i % 3 === 1
          ? fusedOp(
              (
                (f) => (a: Expression, b: Expression) =>
                  f(a, b)
              )(randomExpression(random)),
            )
          : fusedOp(
              (
                (f) => (a: Expression, b: Expression, c: Expression) =>
                  f(a, b, c)
              )(randomExpression(random)),
            );
    const inputs = Array.from({ length: (i % 3) + 1 }, (_, k) => random.normal(k === 0 ? base : like()));
    await agree(op, random, {
      inputs,
      params: undefined,
      needs: inputs.map((_, k) => k === i % 2 || random.next() < 0.7),
      tolerance: { absolute: 3e-4, relative: 3e-4 },
    });
  }
});

test("every unary, binary and comparing op is what it is outside of a kernel", async ({ device, random }) => {
  const a = requireGrad(random.uniform([2, 3, 4], 0.2, 1.8));
  const b = requireGrad(random.uniform([3, 4], 0.2, 1.8));
  for (const name of Object.keys(unary) as UnaryName[]) {
    const own = fuse((x) => x[name]());
    const [y, want] = [own(a), unary[name](a)];
    await expect(y, name).toBeClose(want, { absolute: 1e-6, relative: 1e-6 });
    await expect(grad(y.sum(), [a])[0] as Tensor, name).toBeClose(grad(want.sum(), [a])[0] as Tensor, {
      absolute: 1e-6,
      relative: 1e-6,
    });
  }
  for (const name of Object.keys(binary) as BinaryName[]) {
    const [y, want] = [fuse((x, z) => x[name](z))(a, b), binary[name](a, b)];
    await expect(y, name).toBeClose(want, { relative: 1e-6 });
    for (const [i, g] of grad(y.sum(), [a, b]).entries()) {
      await expect(g, name).toBeClose(grad(binary[name](a, b).sum(), [a, b])[i] as Tensor, {
        absolute: 1e-6,
        relative: 1e-5,
      });
    }
  }
  const c = tensor(device, [1, 2, 3, NaN]);
  for (const name of Object.keys(compare) as CompareName[]) {
    await expect(fuse((x) => x[name](2))(c), name).toBeClose(compare[name](c, 2).to("f32"));
  }
});

test("functions of one code share an op; numbers are part of the code", () => {
  expect(fusedOp((a, b) => a.mul(b).add(1))).toBe(fusedOp((x, y) => x.mul(y).add(1)));
  expect(fusedOp((a, b) => a.mul(b).add(1))).not.toBe(fusedOp((a, b) => a.mul(b).add(2)));
  expect(fusedOp((a, b) => a.sub(b))).not.toBe(fusedOp((a, b) => b.sub(a)));
});

test("a value used twice is computed once and gathers both cotangents", async ({ device }) => {
  const x = requireGrad(tensor(device, [0.5, -1, 2]));
  const y = fuse((a) => {
    const e = a.exp();
    return e.mul(e).add(a);
  })(x);
  const values = [0.5, -1, 2];
  await expect(y).toBeClose(
    values.map((v) => Math.exp(2 * v) + v),
    { relative: 1e-5 },
  );
  await expect(grad(y.sum(), [x])[0] as Tensor).toBeClose(
    values.map((v) => 2 * Math.exp(2 * v) + 1),
    { relative: 1e-5 },
  );
});

test("infinities, negative zero and numbers that f32 rounds are the numbers they are", async ({ device }) => {
  const x = tensor(device, [1, -1]);
  await expect(fuse((a) => a.mul(Infinity))(x)).toBeClose([Infinity, -Infinity]);
  await expect(fuse((a) => a.maximum(-Infinity).add(1e-7))(x)).toBeClose([1 + 1e-7, -1 + 1e-7], { absolute: 1e-7 });
  await expect(fuse((a) => a.mul(1e-30).mul(1e30))(x)).toBeClose([1, -1], { relative: 1e-5 });
  await expect(fuse((a) => a.gt(0).where(Infinity, -Infinity))(x)).toBeClose([Infinity, -Infinity]);
});

test("what a gradient does not read is not held", ({ device }) => {
  const [a, b] = [requireGrad(zeros(device, [1024])), requireGrad(zeros(device, [1024]))];
  const before = device.memory().live;
  using y = fuse((x, z) => x.add(z).mul(2))(a, b);
  a.dispose();
  expect(device.memory().live - before).toBe(0);
  expect(y.requiresGrad).toBe(true);
});

test("empty tensors, bools and the wrong number of tensors", async ({ device }) => {
  const none = requireGrad(zeros(device, [0, 3]));
  const bias = requireGrad(zeros(device, [3]));
  const y = fuse((x, b) => x.add(b).gelu())(none, bias);
  expect(y.shape).toEqual([0, 3]);
  await expect(grad(y.sum(), [bias])[0] as Tensor).toBeClose([0, 0, 0]);
  const keep = tensor(device, [true, false]);
  await expect(fuse((m, x) => m.where(x, 0))(keep, tensor(device, [3, 4]))).toBeClose([3, 0]);
  expect(() => fuse((x) => x.exp())(zeros(device, [2], "i32"))).toThrow("tensor 0 [2] is i32");
  expect(() => fuse((a, b) => a.add(b))(zeros(device, [2]), zeros(device, [3]))).toThrow("[2]");
  expect(() => fuse(() => 1 as unknown as Expression)).toThrow("no parameters");
  expect(() => fuse((a) => [a] as unknown as Expression)).toThrow("not an expression");
  expect(() => fuse((a) => a.add(NaN))).toThrow("neither a number nor an expression");
  const two = fuse((a, b) => a.add(b)) as (...tensors: Tensor[]) => Tensor;
  expect(() => two(bias)).toThrow("1 tensors for a function of 2");
});
