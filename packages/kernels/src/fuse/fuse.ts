/** Chains of elementwise ops as one kernel, and their gradients as another. */
import {
  cast,
  defineOp,
  type DType,
  isFloat,
  type Op,
  print,
  promote,
  ShapeError,
  sumTo,
  type Tensor,
  UsageError,
} from "@rot/tensor";
import { commonShape, elementwise } from "./elementwise.wgsl.ts";
import { asFloat, evaluate, Expression } from "./expression.ts";
import { backwardProgram, forwardProgram } from "./program.ts";

/** A tuple of one kind, as long as another. */
type Each<A extends readonly unknown[], T> = { readonly [N in keyof A]: T };

/** Functions of the same code are one op, with the kernels that were compiled for it. */
const known = new Map<string, Op<readonly Tensor[], undefined>>();

/**
 * Makes one kernel of a chain of elementwise ops, and one more of its gradient:
 *
 *     const gated = fuse((gate, up) => gate.silu().mul(up));
 *     const y = gated(gate, up);
 *
 * The function is called once, here, with stand-ins that have a tensor's unary, binary and comparing methods, and
 * `condition.where(a, b)`. Numbers become part of the kernel: what changes from call to call is better a tensor, perhaps of
 * shape []. The tensors are broadcast to one shape. Everything is computed in f32 and rounded once, at the end.
 *
 * @param f  from expressions to an expression; what it may not do is look at values
 * @returns  a function of as many tensors, f32, f16, bf16 or bool (as 0 and 1); its result has the dtype that they promote to,
 *   f32 where all are bool
 * @throws {UsageError} when f has no parameter, gives no expression, or a number of tensors is called with that is not f's
 * @throws {ShapeError} when the tensors do not broadcast, or one holds integers
 */
export function fuse<const A extends readonly Expression[]>(
  f: (...args: A) => Expression,
): (...tensors: Each<A, Tensor>) => Tensor {
  const op = fusedOp(f);
  return (...tensors) => op(...(tensors as readonly Tensor[]), undefined);
}

/** {@link fuse} as the tape, the tests and the benchmarks know it. */
export function fusedOp<const A extends readonly Expression[]>(
  f: (...args: A) => Expression,
): Op<readonly Tensor[], undefined> {
  const count = f.length;
  if (count === 0) throw new UsageError("fuse: the function has no parameters; give it one for each tensor");
  const inputs = Array.from({ length: count }, (_, i) => new Expression("input", [], i));
  const whole: unknown = f(...(inputs as unknown as A));
  if (!(whole instanceof Expression)) {
    throw new UsageError(`fuse: the function gives ${String(whole)}, not an expression of its arguments`);
  }
  const { lines, results } = forwardProgram(whole, count);
  const key = `${count}: ${lines.join(" ")} ${results.join(" ")}`;
  let op = known.get(key);
  if (!op) known.set(key, (op = define(whole, count)));
  return op;
}

function define(whole: Expression, count: number): Op<readonly Tensor[], undefined> {
  const names = Array.from({ length: count }, (_, i) => `x${i}`);
  const program = forwardProgram(whole, count);
  const forward = elementwise("fuse.forward", names, program);

  /** The gradient of some inputs: its kernel, and the inputs that it reads. */
  const gradients = new Map<string, ReturnType<typeof defineGradient>>();
  function defineGradient(needs: readonly boolean[]) {
    const program = backwardProgram(whole, needs);
    const reads = names.filter((_, i) => program.reads[i]);
    return { ...program, run: elementwise("fuse.backward", ["dy", ...reads], program) };
  }
  function gradientOf(needs: readonly boolean[]): ReturnType<typeof defineGradient> {
    const key = needs.join(" ");
    const found = gradients.get(key) ?? defineGradient(needs);
    gradients.set(key, found);
    return found;
  }

  return defineOp<readonly Tensor[]>({
    name: "fuse",

    check(inputs) {
      if (inputs.length !== count) throw new UsageError(`fuse: ${inputs.length} tensors for a function of ${count}`);
      for (const [i, { shape, dtype }] of inputs.entries()) {
        if (isFloat(dtype) || dtype === "bool") continue;
        throw new ShapeError(`fuse: tensor ${i} ${print(shape)} is ${dtype}, and it takes floats and bools`);
      }
    },

    reference: (inputs) =>
      cast(asFloat(evaluate(whole, inputs.map(asFloat))).expand(...commonShape(inputs)), dtypeOf(inputs)),

    forward: (inputs) => forward(inputs, commonShape(inputs), [dtypeOf(inputs)])[0] as Tensor,

    saves: (needs) => ({ inputs: gradientOf(needs).reads, output: false }),

    vjp(inputs, _params, _y, dy, needs) {
      const { reads, places, results, run } = gradientOf(needs);
      const wanted = inputs.filter((_, i) => needs[i]);
      // What broadcasting repeated is summed in f32 and rounded after that.
      const dtypes = results.map((_, place): DType => {
        const own = wanted.filter((_, i) => places[i] === place);
        const whole = own.every(({ shape }) => print(shape) === print(dy.shape));
        return whole ? own.map(({ dtype }) => dtype).reduce(promote) : "f32";
      });
      const made = results.length > 0 ? run([dy, ...inputs.filter((_, i) => reads[i])], dy.shape, dtypes) : [];
      let at = 0;
      return inputs.map(({ shape, dtype }, i) => {
        if (!needs[i]) return null;
        const cotangent = made[places[at++] as number] ?? dy;
        return cast(sumTo(cotangent, shape), dtype);
      });
    },
  });
}

/** The dtype that floats and bools promote to. */
function dtypeOf(inputs: readonly Tensor[]): DType {
  const floats = inputs.map(({ dtype }) => dtype).filter(isFloat);
  return floats.length > 0 ? floats.reduce(promote) : "f32";
}
