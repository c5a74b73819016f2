/** What happens to a product on its way into memory: bias, activation, residual. */
import type { DType } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";
import { pointwise, type Pointwise } from "./pointwise.ts";
import { unaryRow } from "./unary.ts";

/** Unary ops that a product may end with. */
export const activations = ["relu", "silu", "gelu", "geluTanh"] as const;
export type Activation = (typeof activations)[number];

/** `activation(product + bias) + residual`; what is missing is left out. */
export interface Ending {
  /** [N] */
  readonly bias?: Tensor | undefined;
  readonly activation?: Activation | undefined;
  /** As large as the product. */
  readonly residual?: Tensor | undefined;
}

/** The tensors that an ending binds, in order. */
export const endingInputs = ({ bias, residual }: Ending): Record<string, Tensor> => ({
  ...(bias && { bias }),
  ...(residual && { residual }),
});

/** Which code an ending is. */
export const endingKey = ({ bias, activation, residual }: Ending): string =>
  `${bias ? "bias" : ""} ${activation ?? ""} ${residual ? "residual" : ""}`;

/**
 * WGSL for `finish(product, at, column) -> T`, with `T` what one store of `y` takes, and `at` and `column` counted in it.
 *
 * @param adds  to what `y` holds already
 */
export function finish({ bias, activation, residual }: Ending, wide: boolean, adds = false): string {
  const row = activation && unaryRow(activation);
  return `
    alias T = ${wide ? "vec4f" : "f32"};
    alias C = ${wide ? "vec4u" : "u32"};
    fn is_nan(x: T) -> ${wide ? "vec4<bool>" : "bool"} { return (bitcast<C>(x) & C(0x7fffffffu)) > C(0x7f800000u); }
    ${row?.helpers ?? ""}
    ${row ? `fn activation(x: T) -> T { return ${row.y}; }` : ""}
    fn finish(product: T, at: u32, column: u32) -> T {
      var y = product;
      ${bias ? "y += load_bias(column);" : ""}
      ${row ? "y = activation(y);" : ""}
      ${residual ? "y += load_residual(at);" : ""}
      ${adds ? "y += load_y(at);" : ""}
      return y;
    }`;
}

const slopes = Object.fromEntries(
  activations.map((name) => {
    const { dx: expression, helpers = "" } = unaryRow(name);
    return [name, pointwise({ name: `${name}.vjp`, inputs: ["x", "dy"], expression, helpers, compute: "f32" })];
  }),
) as Record<Activation, Pointwise<"x" | "dy">>;

/** The cotangent of an activation's argument `x`, from that of its value. Untaped. */
export const activationVjp = (name: Activation, x: Tensor, dy: Tensor, dtype: DType): Tensor =>
  slopes[name]({ x, dy }, dtype);
