/** How weights begin, under PyTorch's names and by its formulas. */
import { ShapeError } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { full, ones, zeros } from "../ops/create.ts";
import { print, type Shape, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { type DrawOptions, rand, randn, truncatedNormal } from "./draw.ts";

/** What follows a layer; its gain keeps the variance through it. */
export type Nonlinearity = "linear" | "sigmoid" | "tanh" | "relu" | "leakyRelu" | "selu";

/**
 * The factor that the deviation of weights takes before a nonlinearity.
 *
 * @param a  the slope of leakyRelu below 0
 * @see torch.nn.init.calculate_gain
 */
export function calculateGain(nonlinearity: Nonlinearity, a = 0.01): number {
  switch (nonlinearity) {
    case "linear":
    case "sigmoid":
      return 1;
    case "tanh":
      return 5 / 3;
    case "relu":
      return Math.SQRT2;
    case "leakyRelu":
      return Math.sqrt(2 / (1 + a * a));
    case "selu":
      return 3 / 4;
  }
}

/**
 * How many inputs an output has, and how many outputs an input, for a weight [out, in, ...kernel].
 *
 * @throws {ShapeError} below rank 2
 */
export function fans(shape: Shape, who = "fans"): { fanIn: number; fanOut: number } {
  const [outputs, inputs] = shape;
  if (outputs === undefined || inputs === undefined) {
    throw new ShapeError(`${who}: fans need a weight [out, in, ...], got ${print(shape)}`);
  }
  const field = size(shape.slice(2));
  return { fanIn: inputs * field, fanOut: outputs * field };
}

/** What the Xavier initialisers take. */
export interface XavierOptions extends DrawOptions {
  /** See {@link calculateGain}; 1 by default. */
  readonly gain?: number;
}

/** What the Kaiming initialisers take. */
export interface KaimingOptions extends DrawOptions {
  /** The slope of leakyRelu below 0; 0 by default. */
  readonly a?: number;
  /** Keeps the variance of the forward pass (`fanIn`, the default) or of the backward pass. */
  readonly mode?: "fanIn" | "fanOut";
  /** leakyRelu by default. */
  readonly nonlinearity?: Nonlinearity;
}

function xavier(shape: Shape, gain: number, who: string): number {
  const { fanIn, fanOut } = fans(shape, who);
  return gain * Math.sqrt(2 / (fanIn + fanOut));
}

function kaiming(
  shape: Shape,
  { a = 0, mode = "fanIn", nonlinearity = "leakyRelu" }: KaimingOptions,
  who: string,
): number {
  return calculateGain(nonlinearity, a) / Math.sqrt(fans(shape, who)[mode]);
}

/** A uniform number of deviation 1 reaches from −√3 to √3. */
const reach = Math.sqrt(3);

/** The initialisers. Each makes a new tensor; `requireGrad(keep(...))` makes it a parameter. */
export const init = {
  zeros,
  ones,

  /** One value everywhere. */
  constant: full,

  /** In [from, to), by default [0, 1). */
  uniform: rand,

  /** Of mean 0 and deviation 1 by default. */
  normal: randn,

  /** As {@link truncatedNormal}: by default of mean 0 and deviation 1, in [-2, 2]. */
  truncNormal: truncatedNormal,

  /**
   * Uniform in ±gain · √(6 / (fanIn + fanOut)).
   *
   * @see Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html
   */
  xavierUniform(device: Device, shape: Shape, { gain = 1, ...options }: XavierOptions): Tensor {
    const bound = reach * xavier(shape, gain, "xavierUniform");
    return rand(device, shape, { ...options, from: -bound, to: bound });
  },

  /** Normal with deviation gain · √(2 / (fanIn + fanOut)). */
  xavierNormal(device: Device, shape: Shape, { gain = 1, ...options }: XavierOptions): Tensor {
    return randn(device, shape, { ...options, std: xavier(shape, gain, "xavierNormal") });
  },

  /**
   * Uniform in ±gain · √(3 / fan).
   *
   * @see He et al. 2015, https://arxiv.org/abs/1502.01852
   */
  kaimingUniform(device: Device, shape: Shape, options: KaimingOptions): Tensor {
    const bound = reach * kaiming(shape, options, "kaimingUniform");
    const { seed, dtype = "f32" } = options;
    return rand(device, shape, { seed, dtype, from: -bound, to: bound });
  },

  /** Normal with deviation gain / √fan. */
  kaimingNormal(device: Device, shape: Shape, options: KaimingOptions): Tensor {
    const { seed, dtype = "f32" } = options;
    return randn(device, shape, { seed, dtype, std: kaiming(shape, options, "kaimingNormal") });
  },
} as const;
