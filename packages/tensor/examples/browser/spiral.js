// @ts-check
import { AdamW, crossEntropy, grad, init, matmul, requireGrad, scope, tensor, untaped, zeros } from "@rot/tensor";

/** Two arms that wind around each other. */
export const points = Array.from({ length: 200 }, (_, i) => {
  const arm = i % 2;
  const radius = 0.1 + (0.9 * i) / 199;
  const angle = radius * 1.5 * 2 * Math.PI + arm * Math.PI;
  return { x: radius * Math.cos(angle), y: radius * Math.sin(angle), arm };
});

/** Where the network is asked for its guess: cells over the plane from -1.2 to 1.2, row by row from the top left. */
export const grid = { cells: 64, reach: 1.2 };

/**
 * Teaches a network to say which arm a point belongs to, and shows its guess everywhere after every tenth step.
 *
 * @param {import("@rot/tensor").Device} device
 */
export async function* learnSpiral(device) {
  const x = tensor(
    device,
    points.map((point) => [point.x, point.y]),
  ); // [200, 2]
  const arms = tensor(
    device,
    points.map((point) => point.arm),
    { dtype: "i32" },
  ); // [200]
  const places = tensor(device, centres(grid)); // [4096, 2]

  const [first, second, last] = [layer(device, 32, 2), layer(device, 32, 32), layer(device, 2, 32)];
  const parameters = [first, second, last].flatMap(({ weight, bias }) => [weight, bias]);
  /** From points [N, 2] to two numbers for each [N, 2]: the larger one is the guess. @param {import("@rot/tensor").Tensor} x */
  const network = (x) => apply(last, apply(second, apply(first, x).tanh()).tanh());

  const optimizer = new AdamW(parameters, { lr: 0.02 });
  for (let step = 1; step <= 300; step++) {
    // What is made in a scope is freed at its end, but for what it returns.
    const loss = scope(() => {
      const loss = crossEntropy(network(x), arms);
      optimizer.step(grad(loss, parameters));
      return loss;
    });
    if (step % 10 === 0) {
      // Nothing to learn from here, so nothing is kept for gradients.
      const { right, orange } = untaped(() =>
        scope(() => ({
          right: network(x).argmax(-1).eq(arms).mean(),
          orange: network(places).softmax().select(-1, 1), // [4096]
        })),
      );
      yield { step, loss: await loss.item(), right: 100 * (await right.item()), guesses: await orange.read() };
      right.dispose();
      orange.dispose();
    }
    loss.dispose();
  }
}

/**
 * The numbers of one layer, which begin at random.
 *
 * @param {import("@rot/tensor").Device} device
 * @param {number} outputs
 * @param {number} inputs
 */
function layer(device, outputs, inputs) {
  const weight = init.xavierNormal(device, [outputs, inputs], { seed: inputs, gain: 5 / 3 });
  return { weight: requireGrad(weight), bias: requireGrad(zeros(device, [outputs])) };
}

/** x · weightᵀ + bias. @param {ReturnType<typeof layer>} layer @param {import("@rot/tensor").Tensor} x */
function apply({ weight, bias }, x) {
  return matmul(x, weight, { transposeB: true }).add(bias);
}

/** The centre of each cell of a grid. @param {{ cells: number, reach: number }} grid */
function centres({ cells, reach }) {
  const along = Array.from({ length: cells }, (_, i) => ((2 * i + 1) / cells - 1) * reach);
  return along.flatMap((y) => along.map((x) => [x, -y]));
}
