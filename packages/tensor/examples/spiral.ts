/** An MLP learns three arms of a spiral, and draws its decision boundary into a picture: `spiral.png` or the path given. */
import { writeFileSync } from "node:fs";
import {
  AdamW,
  crossEntropy,
  grad,
  init,
  linear,
  openDevice,
  philox,
  requireGrad,
  scope,
  tensor,
  type Tensor,
  untaped,
  zeros,
} from "@rot/tensor";
import { PNG } from "pngjs";

const path = process.argv[2] ?? "spiral.png";
const [arms, perArm, width, pixels] = [3, 100, 32, 256];
const colours = [
  [86, 180, 233],
  [230, 159, 0],
  [0, 158, 115],
];

using device = await openDevice();

/** Points along each arm, from the middle outwards, with a little noise. */
const points = Array.from({ length: arms * perArm }, (_, i) => {
  const [arm, radius] = [Math.floor(i / perArm), (i % perArm) / perArm];
  const noise = philox([i, 0, 0, 0], [1, 0])[0] / 2 ** 32 - 0.5;
  const angle = (arm * 2 * Math.PI) / arms + 4 * radius + 0.5 * noise;
  return { arm, x: radius * Math.sin(angle), y: radius * Math.cos(angle) };
});
const inputs = tensor(
  device,
  points.map(({ x, y }) => [x, y]),
);
const labels = tensor(
  device,
  points.map(({ arm }) => arm),
  { dtype: "i32" },
);

const layer = (outputs: number, ins: number, seed: number) => ({
  weight: requireGrad(init.kaimingUniform(device, [outputs, ins], { seed })),
  bias: requireGrad(zeros(device, [outputs])),
});
const layers = [layer(width, 2, 1), layer(width, width, 2), layer(arms, width, 3)];
const parameters = layers.flatMap(({ weight, bias }) => [weight, bias]);

/** [N, 2] → [N, arms] */
const model = (x: Tensor): Tensor =>
  layers.reduce((h, { weight, bias }, i) => linear(i === 0 ? h : h.relu(), weight, bias), x);

const optimizer = new AdamW(parameters, { lr: 0.02 });
for (let step = 0; step < 400; step++) {
  const loss = scope(() => {
    const loss = crossEntropy(model(inputs), labels);
    optimizer.step(grad(loss, parameters));
    return loss;
  });
  if (step % 100 === 99) console.log(`step ${step + 1}: loss ${(await loss.item()).toFixed(3)}`);
  loss.dispose();
}

const hits = await scope(() => untaped(() => model(inputs).argmax(-1).eq(labels).mean())).item();
console.log(`accuracy ${(100 * hits).toFixed(1)} %`);

const grid = Float32Array.from({ length: pixels * pixels * 2 }, (_, i) => {
  const pixel = i >> 1;
  const place = i & 1 ? Math.floor(pixel / pixels) : pixel % pixels;
  return (2.2 * place) / (pixels - 1) - 1.1;
});
const chosen = await scope(() =>
  untaped(() => model(tensor(device, grid, { shape: [pixels * pixels, 2] })).argmax(-1)),
).read();
const picture = new PNG({ width: pixels, height: pixels });
const paint = (pixel: number, colour: readonly number[], shade: number): void =>
  picture.data.set([...colour.map((c) => Math.round(c * shade)), 255], 4 * pixel);
for (const [pixel, arm] of chosen.entries()) paint(pixel, colours[arm] as number[], 1);
for (const { arm, x, y } of points) {
  const [column, row] = [x, y].map((v) => Math.round(((v + 1.1) / 2.2) * (pixels - 1))) as [number, number];
  for (const corner of [0, 1, pixels, pixels + 1]) paint(row * pixels + column + corner, colours[arm] as number[], 0.5);
}
writeFileSync(path, PNG.sync.write(picture));
console.log(`the decision boundary is in ${path}`);
