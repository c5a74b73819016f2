// @ts-check
import { grad, requireGrad, scope, tensor, untaped, zeros } from "@rot/tensor";

/** Points near the line y = 0.7 x - 0.2, the same ones every time. */
export const points = Array.from({ length: 40 }, (_, i) => {
  const x = (i / 39) * 2 - 1;
  return { x, y: 0.7 * x - 0.2 + 0.15 * Math.sin(i * i) };
});

/**
 * Fits a line to the points by gradient descent, and tells after every step how far it has come.
 *
 * @param {import("@rot/tensor").Device} device
 */
export async function* fitLine(device) {
  const x = tensor(device, points.map((point) => point.x));
  const y = tensor(device, points.map((point) => point.y));
  let line = { slope: zeros(device, [1]), offset: zeros(device, [1]) };

  for (let step = 1; step <= 60; step++) {
    // What is made in a scope is freed at its end, but for what it returns.
    const { loss, ...next } = scope(() => {
      const [slope, offset] = [requireGrad(line.slope), requireGrad(line.offset)];
      const loss = x.mul(slope).add(offset).sub(y).square().mean();
      const [dslope, doffset] = grad(loss, [slope, offset]);
      return untaped(() => ({ loss, slope: slope.sub(dslope.mul(0.2)), offset: offset.sub(doffset.mul(0.2)) }));
    });
    line = next;
    // The GPU works on its own; reading a value is what waits for it.
    await Promise.all([line.slope.read(), line.offset.read()]);
    yield { step, loss: await loss.item(), slope: await line.slope.item(), offset: await line.offset.item() };
  }
}
