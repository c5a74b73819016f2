import {
  applyRotary,
  binary,
  cast,
  defineOp,
  expand,
  print,
  rotateHalf,
  type Shape,
  ShapeError,
  sumTo,
  type Tensor,
  unsqueeze,
} from "@rot/tensor";
import { checkFloats } from "../shared/rows.ts";
import { rotaryBackward, rotaryForward } from "./turn.wgsl.ts";

/** How the tables lie over `x`. */
export interface RotaryOptions {
  /**
   * True where `x` is [B, L, heads, K] and the tables [L, K] or [B, L, K]: one row of theirs for all heads of a token.
   * Otherwise the tables are broadcast to `x` as they are.
   */
  readonly heads: boolean;
}

/**
 * Rotary position embedding: `x · cos + rotateHalf(x) · sin`, where `rotateHalf([a, b]) = [−b, a]`, computed in f32.
 *
 * @param x    [..., K] or, with `heads`, [B, L, heads, K]; f32, f16 or bf16; K is even
 * @param cos  [..., K], broadcast to `x`, of any of these dtypes; mostly its two halves are alike, but they need not be
 * @param sin  the shape of `cos`
 * @returns    the shape and dtype of `x`
 * @throws {ShapeError} when K is odd, the tables differ in shape or do not broadcast to `x`, or a tensor holds no floats
 * @see Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34; `rotate_half` in transformers
 */
export const rotary = defineOp<[x: Tensor, cos: Tensor, sin: Tensor], RotaryOptions>({
  name: "rotary",
  kernels: [rotaryForward, rotaryBackward],

  check([x, cos, sin], options) {
    checkFloats("rotary", { x, cos, sin });
    const K = x.shape.at(-1);
    if (K === undefined || K % 2 !== 0)
      throw new ShapeError(`rotary: the last axis of x ${print(x.shape)} has no halves`);
    if (print(cos.shape) !== print(sin.shape)) {
      throw new ShapeError(`rotary: cos is ${print(cos.shape)}, but sin is ${print(sin.shape)}`);
    }
    const table = tableShape(cos, options);
    const lead = x.rank - table.length;
    if (lead < 0 || cos.shape.at(-1) !== K || table.some((n, i) => n !== 1 && n !== x.shape[lead + i])) {
      const over = options.heads ? " [B, L, heads, K]" : "";
      throw new ShapeError(`rotary: the tables ${print(cos.shape)} do not fit x ${print(x.shape)}${over}`);
    }
  },

  reference([x, cos, sin], options) {
    const table = (t: Tensor): Tensor => (options.heads ? unsqueeze(t, -2) : t);
    return applyRotary(x, table(cos), table(sin));
  },

  forward: ([x, cos, sin], options) => turn(rotaryForward, x, cos, sin, x, options),

  saves: (needs) => ({
    inputs: [(needs[1] || needs[2]) as boolean, needs[0] as boolean, needs[0] as boolean],
    output: false,
  }),

  vjp([x, cos, sin], options, _y, dy, needs) {
    // Tables are rarely learned: what they get is said in primitives.
    const flow = (table: Tensor, term: () => Tensor): Tensor =>
      cast(sumTo(term(), tableShape(table, options)), table.dtype).alias(table.shape);
    const wide = cast(dy, "f32");
    return [
      needs[0] ? turn(rotaryBackward, dy, cos, sin, x, options) : null,
      needs[1] ? flow(cos, () => binary.mul(wide, x)) : null,
      needs[2] ? flow(sin, () => binary.mul(wide, rotateHalf(x))) : null,
    ];
  },
});

/** The shape under which a table is broadcast to x. */
const tableShape = ({ shape }: Tensor, { heads }: RotaryOptions): Shape => (heads ? shape.toSpliced(-1, 0, 1) : shape);

/** Turns `x`, the output or its cotangent, into a tensor like `like`. */
function turn(
  kernels: typeof rotaryForward,
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  like: Tensor,
  options: RotaryOptions,
): Tensor {
  const K = x.shape.at(-1) as number;
  const table = tableShape(cos, options);
  const plan = walk(x.shape.slice(0, -1), table.slice(0, -1));
  const whole = (t: Tensor): Tensor => expand(t.alias(table), x.shape);
  const [c, s] = plan ? [cos, sin] : [whole(cos), whole(sin)];
  const wide = K % 8 === 0;
  const half = K / (wide ? 8 : 2);
  return kernels(wide)({ x, cos: c, sin: s }, { y: like }, { half, ...(plan ?? straight(x.size / Math.max(1, K))) }).y;
}

/** Every row has a row of the tables for itself. */
const straight = (rows: number) => ({
  repeats: 1,
  repeatStep: 0,
  outer: 1,
  inner: rows,
  outerRow: 0,
  innerRow: 1,
  outerTable: 0,
  innerTable: 1,
});

/** One axis of the rows of x, or several in one: its length, and how far it moves along the rows of x and of the tables. */
interface Axis {
  length: number;
  row: number;
  table: number;
}

/**
 * How the kernel walks the rows: the innermost axis along which the tables repeat, and up to two others; null where there
 * are more, as only unusual broadcasting has.
 */
function walk(rows: Shape, tables: Shape) {
  const axes: Axis[] = [];
  let row = 1;
  let step = 1;
  for (let d = rows.length - 1, t = tables.length - 1; d >= 0; d--, t--) {
    const length = rows[d] as number;
    const own = tables[t] ?? 1;
    const table = own === 1 ? 0 : step;
    const last = axes[0];
    if (length !== 1) {
      if (last && table === last.table * last.length) last.length *= length;
      else axes.unshift({ length, row, table });
    }
    row *= length;
    step *= own;
  }
  const at = axes.findLastIndex(({ table }) => table === 0);
  const [repeated] = at < 0 ? [] : axes.splice(at, 1);
  if (axes.length > 2) return null;
  const none: Axis = { length: 1, row: 0, table: 0 };
  const inner = axes.at(-1) ?? none;
  const outer = axes.at(-2) ?? none;
  return {
    repeats: repeated?.length ?? 1,
    repeatStep: repeated?.row ?? 0,
    outer: outer.length,
    inner: inner.length,
    outerRow: outer.row,
    innerRow: inner.row,
    outerTable: outer.table,
    innerTable: inner.table,
  };
}
