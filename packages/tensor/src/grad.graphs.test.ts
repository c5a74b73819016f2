import { checkpoint, grad } from "./grad.ts";
import { add, binary, mul, sub } from "./ops/binary.ts";
import { tensor } from "./ops/create.ts";
import { expand } from "./ops/expand.ts";
import { matmul } from "./ops/matmul.ts";
import { mean, sum } from "./ops/reduce.ts";
import { reshape } from "./ops/reshape.ts";
import { unary } from "./ops/unary.ts";
import { scope } from "./scope.ts";
import { broadcast, type Shape, size, strides } from "./shape.ts";
import { requireGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import type { Random } from "./cases.ts";
import { expect, test } from "./testing.ts";

/** An array in double precision. */
interface Plain {
  readonly shape: Shape;
  readonly values: Float64Array;
}

/** One op of a graph: how the device does it and how double precision does. */
interface Step {
  readonly name: string;
  readonly inputs: readonly number[];
  readonly shape: Shape;
  device(...inputs: Tensor[]): Tensor;
  plain(...inputs: Plain[]): Plain;
}

/** An element's place in an operand that is broadcast to `shape`. */
function placeIn(operand: Shape, shape: Shape): (i: number) => number {
  const [own, all] = [strides(operand), strides(shape)];
  const lead = shape.length - operand.length;
  return (i) =>
    operand.reduce((at, length, d) => {
      const index = Math.floor(i / (all[d + lead] as number)) % (shape[d + lead] as number);
      return length === 1 ? at : at + index * (own[d] as number);
    }, 0);
}

const map = ({ shape, values }: Plain, f: (v: number) => number): Plain => ({ shape, values: values.map(f) });

function zip(a: Plain, b: Plain, f: (a: number, b: number) => number): Plain {
  const shape = broadcast(a.shape, b.shape, "test");
  const [atA, atB] = [placeIn(a.shape, shape), placeIn(b.shape, shape)];
  const values = Float64Array.from({ length: size(shape) }, (_, i) =>
    f(a.values[atA(i)] as number, b.values[atB(i)] as number),
  );
  return { shape, values };
}

/** The sum over one axis, which stays with length 1. */
function sumAxis(x: Plain, axis: number): Plain {
  const shape = x.shape.map((n, d) => (d === axis ? 1 : n));
  const values = new Float64Array(size(shape));
  const at = placeIn(shape, x.shape);
  for (const [i, v] of x.values.entries()) values[at(i)] = (values[at(i)] as number) + v;
  return { shape, values };
}

function product(a: Plain, b: Plain): Plain {
  const [m, k, n] = [a.shape[0] as number, a.shape[1] as number, b.shape[1] as number];
  const values = Float64Array.from({ length: m * n }, (_, at) => {
    let total = 0;
    for (let i = 0; i < k; i++) {
      total += (a.values[Math.floor(at / n) * k + i] as number) * (b.values[i * n + (at % n)] as number);
    }
    return total;
  });
  return { shape: [m, n], values };
}

// All of them keep values small, so that a slope in double precision is exact to many digits.
const unaries = {
  sin: Math.sin,
  tanh: Math.tanh,
  sigmoid: (v: number) => 1 / (1 + Math.exp(-v)),
  cos: Math.cos,
  neg: (v: number) => -v,
};
const binaries = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
};

const shapes: Shape[] = [[2, 3], [3, 3], [3], [1], [], [2, 1], [1, 3]];

/** A random op over what the graph has so far. */
function randomStep(random: Random, made: readonly Shape[]): Step {
  const pick = (): number => random.integer(0, made.length);
  const one = pick();
  const shape = made[one] as Shape;
  switch (random.integer(0, 9)) {
    case 0:
    case 1:
    case 2: {
      const name = (Object.keys(unaries) as (keyof typeof unaries)[])[random.integer(0, 5)] ?? "sin";
      return { name, inputs: [one], shape, device: unary[name], plain: (x) => map(x, unaries[name]) };
    }
    case 3: {
      const axis = random.integer(0, Math.max(1, shape.length));
      if (shape.length === 0) break;
      const reduced = shape.map((n, d) => (d === axis ? 1 : n));
      const [name, op, scale] =
        random.next() < 0.5 ? (["sum", sum, 1] as const) : (["mean", mean, 1 / (shape[axis] as number)] as const);
      return {
        name,
        inputs: [one],
        shape: reduced,
        device: (x) => op(x, axis, { keepDim: true }),
        plain: (x) => map(sumAxis(x, axis), (v) => v * scale),
      };
    }
    case 4: {
      const flat = [size(shape)];
      const move = (x: Plain): Plain => ({ shape: flat, values: x.values });
      return { name: "reshape", inputs: [one], shape: flat, device: (x) => reshape(x, flat), plain: move };
    }
    case 5: {
      const wide = [2, ...(shape.length > 1 ? shape.slice(1) : shape)];
      if (shape.length > 1 && shape[0] !== 1) break;
      const plain = (x: Plain): Plain => zip(x, { shape: wide, values: new Float64Array(size(wide)) }, (v) => v);
      return { name: "expand", inputs: [one], shape: wide, device: (x) => expand(x, wide), plain };
    }
    case 6: {
      const other = made.findIndex((s) => s.length === 2 && shape.length === 2 && s[0] === shape[1]);
      if (other < 0) break;
      const result = [shape[0] as number, (made[other] as Shape)[1] as number];
      const tamed = (x: Plain): Plain => map(x, Math.tanh);
      return {
        name: "matmul",
        inputs: [one, other],
        shape: result,
        device: (a, b) => unary.tanh(matmul(a, b)),
        plain: (a, b) => tamed(product(a, b)),
      };
    }
    default:
  }
  const name = (["add", "sub", "mul"] as const)[random.integer(0, 3)] ?? "add";
  const fits = made.flatMap((s, i) => (canMeet(s, shape) ? [i] : []));
  const other = fits[random.integer(0, fits.length)] as number;
  const together = broadcast(shape, made[other] as Shape, "test");
  return {
    name,
    inputs: [one, other],
    shape: together,
    device: { add, sub, mul }[name],
    plain: (a, b) => zip(a, b, binaries[name]),
  };
}

function canMeet(a: Shape, b: Shape): boolean {
  try {
    return size(broadcast(a, b, "test")) <= 64;
  } catch {
    return false;
  }
}

/** Σ of the cosines of everything that nothing else used: one number that every branch leads to. */
function unused(steps: readonly Step[], leaves: number): number[] {
  const used = new Set(steps.flatMap(({ inputs }) => inputs));
  return Array.from({ length: leaves + steps.length }, (_, i) => i).filter((i) => !used.has(i));
}

test("200 random graphs have the slopes of their functions, whole, in scopes or checkpointed", async ({
  device,
  random,
}) => {
  for (let run = 0; run < 200; run++) {
    const leaves = Array.from({ length: 3 }, () => shapes[random.integer(0, shapes.length)] as Shape);
    const steps: Step[] = [];
    const made = [...leaves];
    for (let i = 4 + random.integer(0, 12); i > 0; i--) {
      const step = randomStep(random, made);
      steps.push(step);
      made.push(step.shape);
    }
    const ends = unused(steps, leaves.length);
    const wraps = steps.map(() => random.integer(0, 4));
    const starts = leaves.map((shape) => Float64Array.from(random.normals(size(shape))));
    const frozen = run % 5 === 0 ? 0 : -1; // now and then a leaf is a constant

    const inputs = leaves.map((shape, i) => tensor(device, starts[i] as Float64Array, { shape }));
    const wanted = inputs.filter((_, i) => i !== frozen).map((input) => requireGrad(input));
    const gradients = scope(() => {
      const values: Tensor[] = [...inputs];
      for (const [i, step] of steps.entries()) {
        const own = step.inputs.map((at) => values[at] as Tensor);
        const wrap = wraps[i];
        if (wrap === 0) values.push(checkpoint((...given) => step.device(...given), ...own));
        else if (wrap === 1) values.push(checkpoint(() => step.device(...own)));
        else if (wrap === 2) values.push(scope(() => step.device(...own)));
        else values.push(step.device(...own));
      }
      const loss = ends.map((at) => sum(unary.cos(values[at] as Tensor))).reduce((a, b) => binary.add(a, b));
      return grad(loss, wanted);
    });

    const evaluate = (points: readonly Float64Array[]): number => {
      const values: Plain[] = leaves.map((shape, i) => ({ shape, values: points[i] as Float64Array }));
      for (const step of steps) values.push(step.plain(...step.inputs.map((at) => values[at] as Plain)));
      return ends.reduce((total, at) => (values[at] as Plain).values.reduce((sum, v) => sum + Math.cos(v), total), 0);
    };
    const slopes = leaves.map((_, leaf) =>
      (starts[leaf] as Float64Array).map((_, i) => {
        const at = (by: number): number =>
          evaluate(starts.map((values, j) => (j === leaf ? values.with(i, (values[i] as number) + by) : values)));
        return (at(1e-4) - at(-1e-4)) / 2e-4;
      }),
    );
    const description = steps.map(({ name, inputs }) => `${name}(${inputs.join()})`).join(" ");
    const want = leaves.flatMap((shape, i) => (i === frozen ? [] : [{ shape, values: slopes[i] as Float64Array }]));
    for (const [i, gradient] of gradients.entries()) {
      await expect(gradient, `graph ${run}: ${description}`).toBeClose(want[i] as Plain, {
        absolute: 2e-4,
        relative: 1e-3,
      });
    }
  }
});
