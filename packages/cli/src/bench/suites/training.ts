/** Training steps: forward, backward and stochastic gradient descent, and the loss read back. */
import { attention, embedding, linear, linearCrossEntropy, rmsNorm, swiglu } from "@rot/kernels";
import {
  AdamW,
  type Device,
  grad,
  meanSquaredError,
  type Optimizer,
  ones,
  requireGrad,
  scope,
  SGD,
  tensor,
  type Tensor,
  transpose,
} from "@rot/tensor";
import type { Benchmark, Candidate } from "../benchmark.ts";
import { fingerprint, noise } from "../noise.ts";
import { draw } from "./ops.ts";

/** A weight that is scale · noise as [inputs, outputs], stored as [outputs, inputs]. */
const weight = (device: Device, inputs: number, outputs: number, seed: number, scale: number): Tensor => {
  const values = noise(inputs * outputs, seed).map((v) => v * scale);
  return requireGrad(scope(() => transpose(tensor(device, values, { shape: [inputs, outputs] }))));
};

/** Steps that read their loss; the fingerprint is the loss of the very first. */
function steps(
  name: string,
  parameters: readonly Tensor[],
  optimizer: Optimizer<{ lr: number }, string>,
  loss: () => Tensor,
): Candidate {
  let first: number | undefined;
  const runAndWait = async (): Promise<void> => {
    const result = scope(() => {
      const value = loss();
      optimizer.step(grad(value, parameters));
      return value;
    });
    const number = await result.item();
    first ??= number;
    result.dispose();
  };
  return {
    name,
    runAndWait,
    async check() {
      if (first === undefined) await runAndWait();
      return fingerprint([first as number]);
    },
  };
}

/** Each weight is read forward, back and by the optimizer, and written by that; its gradient is written and read. */
const leastBytes = (weights: number): number => 24 * weights;

const mlp = { batch: 256, width: 512, hidden: 2048 };

/** A hidden layer of rectified units. */
const mlpStep: Benchmark = {
  name: "mlp training step 256x512x2048",
  // Two products forward, and three back: nobody asks for the gradient of the inputs.
  flops: 5 * 2 * mlp.batch * mlp.width * mlp.hidden,
  bytes: leastBytes(2 * mlp.width * mlp.hidden),
  work: { name: "mlp", sizes: mlp },
  target: 5,
  prepare(device) {
    const { batch, width, hidden } = mlp;
    const [x, y] = [draw(device, [batch, width], 1), draw(device, [batch, width], 2)];
    const make = (): [Tensor, Tensor] => [weight(device, width, hidden, 3, 0.1), weight(device, hidden, width, 4, 0.1)];
    const lossOf =
      ([up, down]: [Tensor, Tensor]) =>
      () =>
        meanSquaredError(linear(linear(x, up, null, { activation: "relu" }), down), y);
    const [plain, adaptive] = [make(), make()];
    const { check: _, ...withAdamW } = steps("AdamW", adaptive, new AdamW(adaptive, { lr: 1e-4 }), lossOf(adaptive));
    return [steps("SGD", plain, new SGD(plain, { lr: 0.1 }), lossOf(plain)), withAdamW];
  },
};

const sizes = { tokens: 128, width: 256, heads: 4, vocabulary: 512, layers: 2, hidden: 768 };

/** Weights of its products. */
const transformerWeights =
  sizes.layers * (4 * sizes.width ** 2 + 3 * sizes.width * sizes.hidden) + sizes.width * sizes.vocabulary;

/** Two layers of a decoder: RMSNorm, causal attention, SwiGLU, an embedding and a head of its own. */
const transformerStep: Benchmark = {
  name: "transformer training step 128x256",
  tokens: sizes.tokens,
  flops: 6 * sizes.tokens * transformerWeights + 7 * sizes.layers * sizes.tokens ** 2 * sizes.width,
  bytes: leastBytes(transformerWeights),
  work: { name: "transformer", sizes },
  target: 5,
  prepare(device) {
    const { tokens: L, width: D, heads: H, vocabulary: V, layers, hidden: F } = sizes;
    const id = (i: number): number => (i * 7919 + 13) % V;
    const ids = tensor(
      device,
      Int32Array.from({ length: L }, (_, i) => id(i)),
      { dtype: "i32" },
    );
    const targets = Int32Array.from({ length: L }, (_, i) => id(i + 1));
    let seed = 10;
    const matrix = (inputs: number, outputs: number): Tensor => weight(device, inputs, outputs, seed++, 0.2);
    const gain = (): Tensor => requireGrad(ones(device, [D]));
    const table = requireGrad(
      tensor(
        device,
        noise(V * D, seed++).map((v) => v * 0.2),
        { shape: [V, D] },
      ),
    );
    const head = matrix(D, V);
    const last = gain();
    const blocks = Array.from({ length: layers }, () => ({
      q: matrix(D, D),
      k: matrix(D, D),
      v: matrix(D, D),
      o: matrix(D, D),
      gate: matrix(D, F),
      up: matrix(D, F),
      down: matrix(F, D),
      before: gain(),
      between: gain(),
    }));
    const parameters = [table, head, last, ...blocks.flatMap((block) => Object.values(block))];
    const norm = (x: Tensor, weight: Tensor): Tensor => rmsNorm(x, weight, { eps: 1e-6 });
    const loss = (): Tensor => {
      let x = embedding(ids, table);
      for (const { q, k, v, o, gate, up, down, before, between } of blocks) {
        const h = norm(x, before);
        const [queries, keys, values] = [q, k, v].map((w) => linear(h, w).reshape(1, L, H, D / H)) as [
          Tensor,
          Tensor,
          Tensor,
        ];
        const y = attention(queries, keys, values, { causal: true }).reshape(L, D);
        x = linear(y, o, null, { residual: x });
        const inner = norm(x, between);
        x = linear(swiglu(linear(inner, gate), linear(inner, up)), down, null, { residual: x });
      }
      return linearCrossEntropy(norm(x, last), head, targets);
    };
    return [steps("SGD", parameters, new SGD(parameters, { lr: 0.1 }), loss)];
  },
};

export const training: readonly Benchmark[] = [mlpStep, transformerStep];
