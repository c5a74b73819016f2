/** A small network that tests train: 2 → 16 → 16 → 1 with tanh, made of primitives. */
import { add, binary } from "../../src/ops/binary.ts";
import { tensor, zeros } from "../../src/ops/create.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { mean } from "../../src/ops/reduce.ts";
import { unary } from "../../src/ops/unary.ts";
import type { Device } from "../../src/gpu/device.ts";
import { key } from "../../src/random/key.ts";
import { init } from "../../src/random/init.ts";
import { requireGrad } from "../../src/tape.ts";
import type { Tensor } from "../../src/tensor.ts";

/** A network, and its loss on points of which the values are known. */
export interface Mlp {
  readonly parameters: readonly Tensor[];
  /** The mean square of what it says of `x` [N, 2] less `y` [N, 1]. */
  loss(x: Tensor, y: Tensor): Tensor;
}

/** A fresh network; the same seed makes the same one. */
export function mlp(device: Device, seed: number): Mlp {
  const widths = [2, 16, 16, 1];
  const layers = widths.slice(1).map((outputs, i) => {
    const inputs = widths[i] as number;
    const from = key(seed).for(`layers.${i}`);
    return {
      weight: requireGrad(init.xavierUniform(device, [outputs, inputs], { seed: from })),
      bias: requireGrad(zeros(device, [outputs])),
    };
  });
  return {
    parameters: layers.flatMap(({ weight, bias }) => [weight, bias]),
    loss(x, y) {
      const out = layers.reduce((h, { weight, bias }, i) => {
        const z = add(matmul(h, weight, { transposeB: true }), bias);
        return i < layers.length - 1 ? unary.tanh(z) : z;
      }, x);
      return mean(unary.square(binary.sub(out, y)));
    },
  };
}

/** 32 points of the square [-1, 1]², and x₀ · x₁ + sin(2 x₀) / 2 at each. */
export function toyPoints(device: Device): { x: Tensor; y: Tensor } {
  const points = Array.from({ length: 32 }, (_, i) => [((i * 7) % 32) / 15.5 - 1, ((i * 19) % 32) / 15.5 - 1] as const);
  return {
    x: tensor(device, points),
    y: tensor(
      device,
      points.map(([a, b]) => [a * b + Math.sin(2 * a) / 2]),
    ),
  };
}
