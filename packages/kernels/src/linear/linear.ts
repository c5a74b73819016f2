import {
  binary,
  cast,
  defineOp,
  type DType,
  linear as reference,
  print,
  promote,
  ShapeError,
  sum,
  type Tensor,
  unary,
} from "@rot/tensor";
import { type Activation, activationVjp, multiply, productEndings } from "@rot/tensor/kernel";
import { checkFloats, rowsOf } from "../shared/rows.ts";

interface Params {
  /** Which tensors follow `x` and `weight`, in this order. */
  readonly bias: boolean;
  readonly residual: boolean;
  readonly activation: Activation | null;
}

/** The tensors of a call, and their places among the inputs. */
function named(inputs: readonly Tensor[], { bias, residual }: Params) {
  const [x, weight] = inputs as [Tensor, Tensor];
  const after = bias ? 3 : 2;
  return {
    x,
    weight,
    bias: bias ? (inputs[2] as Tensor) : undefined,
    residual: residual ? (inputs[after] as Tensor) : undefined,
    places: { bias: 2, residual: after },
  };
}

/** [..., D] as [rows, D]. */
const flat = (x: Tensor): Tensor => {
  const { rows, width } = rowsOf(x);
  return x.alias([rows, width]);
};

const promoted = (...tensors: readonly (Tensor | undefined)[]): DType =>
  tensors.reduce<DType | null>((all, t) => (t ? (all ? promote(all, t.dtype) : t.dtype) : all), null) as DType;

/** {@link linear} as the tape, the tests and the benchmarks know it: `x`, `weight` and perhaps `bias` and `residual`. */
export const linearOp = defineOp<readonly Tensor[], Params>({
  name: "linear",
  kernels: [productEndings],

  check(inputs, params) {
    const { x, weight, bias, residual } = named(inputs, params);
    checkFloats("linear", { x, weight, ...(bias && { bias }), ...(residual && { residual }) });
    if (weight.rank !== 2 || x.rank === 0 || x.shape.at(-1) !== weight.shape[1]) {
      throw new ShapeError(
        `linear: x ${print(x.shape)} and weight ${print(weight.shape)} do not fit [..., K] and [N, K]`,
      );
    }
    if (bias && print(bias.shape) !== print(weight.shape.slice(0, 1))) {
      throw new ShapeError(`linear: bias is ${print(bias.shape)}, weight ${print(weight.shape)}`);
    }
    const shape = shapeOf(x, weight);
    if (residual && print(residual.shape) !== print(shape)) {
      throw new ShapeError(`linear: residual is ${print(residual.shape)}, the result ${print(shape)}`);
    }
  },

  reference(inputs, params) {
    const { x, weight, bias, residual } = named(inputs, params);
    const product = reference(x, weight, bias);
    const y = params.activation ? unary[params.activation](product) : product;
    return residual ? binary.add(y, residual) : y;
  },

  forward(inputs, params, needs) {
    const { x, weight, bias, residual, places } = named(inputs, params);
    const { activation } = params;
    const shape = shapeOf(x, weight);
    const product = (dtype: DType, ending: Parameters<typeof multiply>[4]): Tensor =>
      multiply(flat(x), weight, TRANSPOSED, dtype, ending).alias(shape);
    const flowsBack = needs[0] || needs[1] || (bias && needs[places.bias]);
    if (!activation || !flowsBack) {
      return product(promoted(x, weight, bias, residual), {
        ending: { bias, activation: activation ?? undefined, residual },
      });
    }
    const z = product(promoted(x, weight, bias), { ending: { bias } });
    const y = unary[activation](z);
    return [residual ? binary.add(y, residual) : y, z];
  },

  saves: (needs) => ({ inputs: [needs[1] as boolean, needs[0] as boolean, false, false], output: false }),

  vjp(inputs, params, _y, dy, needs, [z]) {
    const { x, weight, bias, residual, places } = named(inputs, params);
    const { activation } = params;
    const dz = activation && z ? activationVjp(activation, z, dy, z.dtype) : dy;
    const given: (Tensor | null)[] = [
      needs[0] ? multiply(flat(dz), weight, PLAIN, x.dtype).alias(x.shape) : null,
      needs[1] ? multiply(flat(dz), flat(x), { transposeA: true, transposeB: false }, weight.dtype) : null,
    ];
    if (bias) given.push(needs[places.bias] ? cast(sum(flat(dz), 0), bias.dtype) : null);
    if (residual) given.push(needs[places.residual] ? cast(dy, residual.dtype) : null);
    return given;
  },
});

const TRANSPOSED = { transposeA: false, transposeB: true } as const;
const PLAIN = { transposeA: false, transposeB: false } as const;

const shapeOf = (x: Tensor, weight: Tensor): readonly number[] => [...x.shape.slice(0, -1), weight.shape[0] as number];

/** What {@link linear} may end with. */
export interface LinearOptions {
  /** Applied to the product with its bias; the unary op of that name. */
  readonly activation?: Activation | null;
  /** Added last, as large as the result. */
  readonly residual?: Tensor | null;
}

/**
 * `activation(x · weightᵀ + bias) + residual` in one kernel, computed in f32.
 *
 * Weights are read as they are stored. Where a gradient will flow through an activation, what the activation takes is kept
 * for it, in the result's dtype, and the activation is a pass of its own. Without an activation nothing but the inputs is kept.
 *
 * @param x       [..., K], f32, f16 or bf16
 * @param weight  [N, K], as checkpoints have it
 * @param bias    [N]
 * @returns       [..., N], in the dtype that all of them promote to
 * @throws {ShapeError} when the shapes do not fit, or a tensor holds no floats
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  { activation = null, residual }: LinearOptions = {},
): Tensor {
  const more = [bias, residual].filter((t): t is Tensor => !!t);
  return linearOp(x, weight, ...more, { bias: !!bias, residual: !!residual, activation });
}
