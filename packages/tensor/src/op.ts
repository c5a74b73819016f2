/** An op: what is computed, how it is computed fast, and how cotangents flow back through it. */
import type { Kernel } from "./kernel.ts";
import { scope } from "./scope.ts";
import { type Backward, isTaping, record, untaped } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/** One output, or a tuple of several. */
export type Outputs = Tensor | readonly [Tensor, Tensor, ...Tensor[]];

/** The cotangents of outputs. Of several, one that nobody used has none. */
export type Cotangents<Y extends Outputs> = Y extends Tensor ? Tensor : { readonly [N in keyof Y]: Tensor | null };

/** What {@link defineOp} takes. `I` is the tuple of its tensors, `P` its parameters, `Y` what it gives. */
export interface OpSpec<I extends readonly Tensor[], P, Y extends Outputs = Tensor> {
  readonly name: string;
  /** How many outputs there are, where it is not one. */
  readonly outputs?: number;
  /** The kernels whose knobs tests and the tuner turn. */
  readonly kernels?: readonly Kernel[];
  /** Refuses what does not fit, before any work on the device. */
  check?(inputs: I, params: P): void;
  /** The same in primitives: its meaning, its oracle, and what `openDevice({ kernels: "reference" })` runs. */
  reference?(inputs: I, params: P): Y;
  /**
   * Runs untaped.
   *
   * @param needs  which inputs will want a cotangent
   * @returns      the output or all outputs, perhaps followed by what else only `vjp` reads
   */
  forward(inputs: I, params: P, needs: readonly boolean[]): Tensor | readonly [y: Tensor, ...extras: Tensor[]];
  /**
   * What `vjp` reads, perhaps by which inputs want a cotangent; by default every input and the output. The rest is not
   * held and may not be read.
   */
  readonly saves?: Saves | ((needs: readonly boolean[]) => Saves);
  /**
   * The cotangent of each input, null where none flows. Runs untaped.
   *
   * @param y       the output, or all of them
   * @param dy      its cotangent, of the same shape, or that of each
   * @param needs   which inputs want a cotangent; that of another may be null
   * @param extras  what `forward` returned after the output
   */
  vjp(
    inputs: I,
    params: P,
    y: Y,
    dy: Cotangents<Y>,
    needs: readonly boolean[],
    extras: readonly Tensor[],
  ): { readonly [N in keyof I]: Tensor | null };
}

/** Which tensors a gradient reads. */
export interface Saves {
  readonly inputs?: readonly boolean[];
  /** One for all outputs, or one for each. */
  readonly output?: boolean | readonly boolean[];
}

/** A function of tensors that the tape knows. */
export interface Op<I extends readonly Tensor[], P, Y extends Outputs = Tensor> {
  (...args: [...inputs: I, params: P]): Y;
  readonly spec: OpSpec<I, P, Y>;
}

/** Makes an op of a forward and its VJP. This package's own ops and yours are made the same way. */
export function defineOp<I extends readonly Tensor[], P = undefined, Y extends Outputs = Tensor>(
  spec: OpSpec<I, P, Y>,
): Op<I, P, Y> {
  const several = spec.outputs !== undefined;
  const outputCount = spec.outputs ?? 1;
  const call = (...args: [...I, P]): Y => {
    const params = args.pop() as P;
    const inputs = args as unknown as I;
    spec.check?.(inputs, params);
    if (spec.reference && inputs[0]?.device.kernels === "reference") return spec.reference(inputs, params);
    const tapes = isTaping();
    const needs = inputs.map((input) => tapes && input.requiresGrad);
    const made = scope(() => untaped(() => ownHandles(spec.forward(inputs, params, needs), inputs)));
    const all = isTensor(made) ? [made] : made;
    const [outputs, extras] = [all.slice(0, outputCount), all.slice(outputCount)];
    if (needs.includes(true)) {
      const { inputs: reads, output = true } =
        (typeof spec.saves === "function" ? spec.saves(needs) : spec.saves) ?? {};
      const save = inputs.map((input, i) => (reads?.[i] === false ? input.ghost(spec.name) : input));
      const readsOutput = (i: number): boolean => (typeof output === "boolean" ? output : output[i] === true);
      save.push(...outputs.map((y, i) => (readsOutput(i) ? y : y.ghost(spec.name))), ...extras);
      record({ name: spec.name, inputs, outputs, save, backward: backwardOf(params, needs) });
    }
    for (const extra of extras) extra.dispose();
    return (several ? outputs : outputs[0]) as unknown as Y;
  };

  /** Made apart from the call: a closure inside would keep its tensors from the garbage collector. */
  const backwardOf =
    (params: P, needs: readonly boolean[]): Backward =>
    (saved, dys) => {
      const count = needs.length;
      const ys = saved.slice(count, count + outputCount);
      const [y, dy] = several ? [ys, ys.map((_, i) => dys[i] ?? null)] : [ys[0], dys[0]];
      const [inputs, extras] = [saved.slice(0, count), saved.slice(count + outputCount)];
      return spec.vjp(inputs as unknown as I, params, y as Y, dy as unknown as Cotangents<Y>, needs, extras);
    };
  return Object.assign(call, { spec });
}

const isTensor = (made: Tensor | readonly Tensor[]): made is Tensor => "shape" in made;

/** A forward may return an input as it is, or one tensor twice; the tape and the caller need handles of their own. */
function ownHandles(made: Tensor | readonly Tensor[], inputs: readonly Tensor[]): typeof made {
  if (isTensor(made)) return inputs.includes(made) ? made.alias() : made;
  return made.map((y, i) => (inputs.includes(y) || made.indexOf(y) < i ? y.alias() : y));
}
