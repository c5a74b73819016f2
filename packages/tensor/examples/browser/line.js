// @ts-check
import { AdamW, grad, requireGrad, scope, tensor, zeros } from "@rot/tensor";

/** Points near the line y = 0.7 x - 0.2, the same ones every time. */
export const points = Array.from({ length: 40 }, (_, i) => {
  const x = (i / 39) * 2 - 1;
  return { x, y: 0.7 * x - 0.2 + 0.15 * Math.sin(i * i) };
});

/**
 * Fits a line to the points, and tells after every step how far it has come.
 *
 * @param {import("@rot/tensor").Device} device
 */
export async function* fitLine(device) {
  const x = tensor(
    device,
    points.map((point) => point.x),
  );
  const y = tensor(
    device,
    points.map((point) => point.y),
  );
  const slope = requireGrad(zeros(device, [1]));
  const offset = requireGrad(zeros(device, [1]));
  const optimizer = new AdamW([slope, offset], { lr: 0.05, weightDecay: 0 });

  for (let step = 1; step <= 80; step++) {
    // What is made in a scope is freed at its end, but for what it returns.
    const loss = scope(() => {
      const loss = x.mul(slope).add(offset).sub(y).square().mean();
      optimizer.step(grad(loss, [slope, offset]));
      return loss;
    });
    // Until here the GPU was only told what to do; reading a value is what waits for it.
    yield { step, loss: await loss.item(), slope: await slope.item(), offset: await offset.item() };
    loss.dispose();
  }
}
