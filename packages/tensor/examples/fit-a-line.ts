/** Fits y = 2x + 1 to four points: gradients, an optimizer, and memory that stays flat. */
import { AdamW, grad, openDevice, requireGrad, scope, tensor, zeros } from "@rot/tensor";

using device = await openDevice();
const x = tensor(device, [0, 1, 2, 3]);
const y = tensor(device, [1, 3, 5, 7]);
const slope = requireGrad(zeros(device, [1]));
const offset = requireGrad(zeros(device, [1]));
const optimizer = new AdamW([slope, offset], { lr: 0.1, weightDecay: 0 });

for (let step = 0; step < 300; step++) {
  scope(() => {
    const loss = x.mul(slope).add(offset).sub(y).square().mean();
    optimizer.step(grad(loss, [slope, offset]));
  });
}
console.log(`y = ${(await slope.item()).toFixed(2)} x + ${(await offset.item()).toFixed(2)}`);
