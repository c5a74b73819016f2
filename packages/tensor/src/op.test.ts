import { collectGarbage } from "./gpu/node/collect.ts";
import { grad } from "./grad.ts";
import { defineOp } from "./op.ts";
import { add, mul } from "./ops/binary.ts";
import { split } from "./ops/concat.ts";
import { tensor, zeros } from "./ops/create.ts";
import { sum } from "./ops/reduce.ts";
import { unary } from "./ops/unary.ts";
import { requireGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import { expect, test } from "./testing.ts";

test("of several outputs each has its cotangent, and null stands for those that nobody used", ({ device }) => {
  const seen: (readonly (Tensor | null)[])[] = [];
  const triple = defineOp<[x: Tensor], undefined, readonly [Tensor, Tensor, Tensor]>({
    name: "triple",
    outputs: 3,
    forward: ([x]) => [unary.neg(x), unary.square(x), unary.exp(x)],
    vjp([x], _, __, dys) {
      seen.push(dys);
      return [x];
    },
  });
  const x = requireGrad(tensor(device, [1, 2]));
  for (const used of [0, 1, 2]) {
    grad(sum(triple(x, undefined)[used] as Tensor), [x]);
    expect(seen.at(-1)?.map((dy) => dy !== null)).toEqual([0, 1, 2].map((i) => i === used));
    expect(seen.at(-1)).not.toContain(undefined);
  }
});

test("a forward may return its inputs, or one tensor twice: each output and the caller's input live on", async ({
  device,
}) => {
  const both = defineOp<[x: Tensor], undefined, readonly [Tensor, Tensor, Tensor]>({
    name: "both",
    outputs: 3,
    forward([x]) {
      const y = unary.exp(x);
      return [y, x, y];
    },
    saves: { inputs: [false], output: false },
    vjp: (_, __, ___, dys) => [dys.find((dy) => dy !== null) ?? null],
  });
  const extra = defineOp<[x: Tensor]>({
    name: "extra",
    forward([x]) {
      const y = unary.square(x);
      return [y, x, y];
    },
    saves: { inputs: [false], output: false },
    vjp: (_, __, ___, dy, ____, [x, y]) => [mul(dy, mul(x as Tensor, y as Tensor))],
  });
  const x = requireGrad(tensor(device, [1, 2]));
  const [y, same, again] = both(x, undefined);
  y.dispose();
  await expect(again).toBeClose([Math.E, Math.E ** 2], { relative: 1e-6 });
  for (const one of [same, again]) await expect(grad(sum(one), [x], { retain: true })[0] as Tensor).toBeClose([1, 1]);
  const z = extra(x, undefined);
  await expect(z).toBeClose([1, 4]);
  await expect(grad(sum(z), [x])[0] as Tensor).toBeClose([1, 8]);
  await expect(x).toBeClose([1, 2]);
});

test("outside of scopes, what no gradient reads is collected while its tape goes on", async ({ ownDevice: device }) => {
  const x = requireGrad(zeros(device, [8]));
  const { live } = device.memory();
  // The first neg is held by nobody: neither the second nor the split reads what it is made of.
  const y = unary.neg(unary.neg(x));
  const [z] = split(unary.neg(x), [6, 2]);
  for (let round = 0; round < 50 && device.memory().live > live + 56; round++) {
    collectGarbage();
    await new Promise((done) => setTimeout(done));
  }
  expect(device.memory().live).toBe(live + 56);
  await expect(grad(add(sum(y), sum(z as Tensor)), [x])[0] as Tensor).toBeClose([0, 0, 0, 0, 0, 0, 1, 1]);
});
