/** Test tools for this repository's ops and for yours: a device fixture, matchers, op checks, finite differences. */
import { test as base, describe, expect } from "vitest";
import { type Cases, Random } from "./cases.ts";
import { isFloat } from "./dtype.ts";
import type { Device } from "./gpu/device.ts";
import { openDevice } from "./gpu/open-device.ts";
import { grad } from "./grad.ts";
import { mul } from "./ops/binary.ts";
import { tensor } from "./ops/create.ts";
import { sum } from "./ops/reduce.ts";
import { print, sameShape, type Shape } from "./shape.ts";
import { requireGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

export { expect };

/** How far apart two numbers may be: |got − want| ≤ absolute + relative · |want|. Both NaN, or the same infinity, are equal. */
export interface Tolerance {
  readonly absolute?: number;
  readonly relative?: number;
}

/** What a tensor is compared with. */
export type Expected = Tensor | ArrayLike<number> | { readonly shape: Shape; readonly values: ArrayLike<number> };

declare module "vitest" {
  // oxlint-disable-next-line typescript/no-explicit-any -- vitest declares it so
  interface Matchers<T = any> {
    /** Passes when every element is within the tolerance and, if one is known, the shape is the same. */
    toBeClose(want: Expected, tolerance?: Tolerance): Promise<T>;
  }
}

expect.extend({
  async toBeClose(got: Tensor, want: Expected, tolerance: Tolerance = {}) {
    const shape = "shape" in want ? want.shape : got.shape;
    const values = "read" in want ? await want.read() : "shape" in want ? want.values : want;
    const problem = sameShape(got.shape, shape)
      ? difference(await got.read(), values, got.shape, tolerance)
      : `its shape is ${print(got.shape)}, expected ${print(shape)}`;
    return { pass: problem === null, message: () => problem ?? "expected them to differ by more than the tolerance" };
  },
});

/** Says where two arrays differ most beyond the tolerance; null when they do not. */
export function difference(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  shape: Shape,
  { absolute = 0, relative = 0 }: Tolerance,
): string | null {
  if (got.length !== want.length) return `it has ${got.length} elements, expected ${want.length}`;
  let worst = 0;
  let at = -1;
  let wrong = 0;
  for (let i = 0; i < got.length; i++) {
    const [a, b] = [got[i] as number, want[i] as number];
    if (Object.is(a, b) || a === b) continue;
    const excess = Math.abs(a - b) - absolute - relative * Math.abs(b);
    if (excess <= 0) continue;
    wrong++;
    if (at < 0 || excess > worst || Number.isNaN(excess)) [worst, at] = [excess, i];
  }
  if (at < 0) return null;
  const index = shape
    .toReversed()
    .reduce<{ rest: number; index: number[] }>(
      ({ rest, index }, n) => ({ rest: Math.floor(rest / n), index: [rest % n, ...index] }),
      { rest: at, index: [] },
    ).index;
  return `${wrong} of ${got.length} elements differ; the worst at ${print(index)} is ${got[at]}, expected ${want[at]} (± ${absolute} ± ${relative}·|x|)`;
}

let opened: Promise<Device> | undefined;

/**
 * `test` with a device (one for each file, on the adapter that `ROT_ADAPTER` names), with one that no other test has, whose
 * live bytes are those of the test alone, and with seeded noise.
 */
export const test = base.extend<{ device: Device; ownDevice: Device; random: Random }>({
  // oxlint-disable-next-line no-empty-pattern -- vitest reads what a fixture needs from this pattern
  device: async ({}, use) => {
    opened ??= openDevice({ tune: "off" }); // what this machine has stored must not matter
    await use(await opened);
  },
  // oxlint-disable-next-line no-empty-pattern -- as above
  ownDevice: async ({}, use) => {
    using device = await openDevice({ tune: "off" });
    await use(device);
  },
  random: async ({ device }, use) => use(new Random(device)),
});

/** max|got − want| / max|want|: one number for tensors of any scale. NaN anywhere gives NaN. */
export async function relativeError(got: Tensor, want: Tensor): Promise<number> {
  const [a, b] = await Promise.all([got.read(), want.read()]);
  let worst = 0;
  let scale = 0;
  for (const [i, value] of b.entries()) {
    worst = Math.max(worst, Math.abs((a[i] as number) - value));
    scale = Math.max(scale, Math.abs(value));
  }
  return worst / (scale || 1);
}

/**
 * Compares the gradients of `f` with central differences, in the direction of random cotangents and perturbations.
 *
 * @param f       a smooth function of the inputs
 * @param inputs  f32 tensors; made leaves here
 * @param step    how far to go each way, in units of the inputs
 */
export async function checkGradients(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  { step = 2 ** -8, relative = 2e-2, absolute = 1e-3, seed = 7 } = {},
): Promise<void> {
  const device = (inputs[0] as Tensor).device;
  const random = new Random(device, seed);
  for (const input of inputs) requireGrad(input);
  const y = f(...inputs);
  const dy = random.normal(y.shape);
  const weigh = await dy.read();
  const gradients = grad(y, inputs, { cotangent: dy });
  for (const [which, input] of inputs.entries()) {
    const values = await input.read();
    const direction = random.normals(values.length);
    const moved = async (sign: number): Promise<number> => {
      const shifted = tensor(
        device,
        Float32Array.from(values, (v, i) => v + sign * step * (direction[i] as number)),
        {
          shape: input.shape,
        },
      );
      const out = await f(...inputs.map((other, i) => (i === which ? shifted : other))).read();
      return dot(out, weigh);
    };
    const slope = ((await moved(1)) - (await moved(-1))) / (2 * step);
    const gradient = await (gradients[which] as Tensor).read();
    const along = dot(gradient, direction);
    const scale = Math.sqrt(dot(gradient, gradient));
    expect(
      Math.abs(along - slope),
      `gradient of input ${which} along a random direction: ${along}, its slope ${slope}`,
    ).toBeLessThan(absolute + relative * Math.max(Math.abs(slope), scale));
  }
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i] as number) * (b[i] as number);
  return total;
}

/**
 * Checks an op at every case and every kernel setting the device can run: the forward against its reference, and its VJP
 * against automatic differentiation through the reference. Whole numbers have no gradient.
 */
export function checkOp<I extends readonly Tensor[], P>({ op, cases }: Cases<I, P>): void {
  const { spec } = op;
  const reference = spec.reference?.bind(spec);
  if (!reference) throw new Error(`checkOp: ${spec.name} has no reference to be checked against`);
  const settings = (spec.kernels ?? []).flatMap((kernel) => kernel.settings().map((setting) => ({ kernel, setting })));

  describe(spec.name, () => {
    describe.for(settings)("$kernel.kernelName $setting", ({ kernel, setting }) => {
      test.for(cases)("$name", async (one, { device, random, skip }) => {
        if (!kernel.runsOn(device, setting)) skip(`${device.name} lacks a feature it needs`);
        const inputs = one.inputs(random);
        const leaves = inputs.filter((input) => isFloat(input.dtype)).map((input) => requireGrad(input));
        const want = reference(inputs, one.params);
        const dy = random.normal(want.shape);
        const wantGradients = grad(sum(mul(want, dy)), leaves);
        const { y, gradients } = kernel.with(setting, () => {
          const y = op(...inputs, one.params);
          return { y, gradients: grad(sum(mul(y, dy)), leaves) };
        });
        expect(await relativeError(y, want), "forward").toBeLessThan(one.tolerance.forward);
        for (const [i, g] of gradients.entries()) {
          const which = inputs.indexOf(leaves[i] as Tensor);
          expect(await relativeError(g, wantGradients[i] as Tensor), `gradient of input ${which}`).toBeLessThan(
            one.tolerance.vjp,
          );
        }
      });
    });
  });
}
