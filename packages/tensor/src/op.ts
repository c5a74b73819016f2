/** An op: what is computed, how it is computed fast, and how cotangents flow back through it. */
import type { Kernel } from "./kernel.ts";
import { scope } from "./scope.ts";
import { isTaping, record, untaped } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/** What {@link defineOp} takes. `I` is the tuple of its tensors, `P` its parameters. */
export interface OpSpec<I extends readonly Tensor[], P> {
  readonly name: string;
  /** The kernels whose knobs tests and the tuner turn. */
  readonly kernels?: readonly Kernel[];
  /** Refuses what does not fit, before any work on the device. */
  check?(inputs: I, params: P): void;
  /** The same in primitives: its meaning, its oracle, and what `openDevice({ kernels: "reference" })` runs. */
  reference?(inputs: I, params: P): Tensor;
  /**
   * Runs untaped.
   *
   * @param needs  which inputs will want a cotangent
   * @returns      the output, perhaps followed by what else only `vjp` reads
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
   * @param y       the output
   * @param dy      its cotangent, of the same shape
   * @param needs   which inputs want a cotangent; that of another may be null
   * @param extras  what `forward` returned after the output
   */
  vjp(
    inputs: I,
    params: P,
    y: Tensor,
    dy: Tensor,
    needs: readonly boolean[],
    extras: readonly Tensor[],
  ): { readonly [N in keyof I]: Tensor | null };
}

/** Which tensors a gradient reads. */
export interface Saves {
  readonly inputs?: readonly boolean[];
  readonly output?: boolean;
}

/** A function of tensors that the tape knows. */
export interface Op<I extends readonly Tensor[], P> {
  (...args: [...inputs: I, params: P]): Tensor;
  readonly spec: OpSpec<I, P>;
}

/** Makes an op of a forward and its VJP. This package's own ops and yours are made the same way. */
export function defineOp<I extends readonly Tensor[], P = undefined>(spec: OpSpec<I, P>): Op<I, P> {
  const call = (...args: [...I, P]): Tensor => {
    const params = args.pop() as P;
    const inputs = args as unknown as I;
    spec.check?.(inputs, params);
    if (spec.reference && inputs[0]?.device.kernels === "reference") return spec.reference(inputs, params);
    const tapes = isTaping();
    const needs = inputs.map((input) => tapes && input.requiresGrad);
    const made = scope(() => untaped(() => ownHandles(spec.forward(inputs, params, needs), inputs)));
    const [y, extras] = isTensor(made) ? [made, []] : [made[0], made.slice(1)];
    if (needs.includes(true)) {
      const { inputs: reads, output = true } =
        (typeof spec.saves === "function" ? spec.saves(needs) : spec.saves) ?? {};
      const save = inputs.map((input, i) => (reads?.[i] === false ? input.ghost(spec.name) : input));
      save.push(output ? y : y.ghost(spec.name), ...extras);
      const count = inputs.length;
      record({
        name: spec.name,
        inputs,
        outputs: [y],
        save,
        backward: (saved, [dy]) => {
          const [kept, y, ...extras] = [saved.slice(0, count), ...saved.slice(count)] as [unknown, Tensor, ...Tensor[]];
          return spec.vjp(kept as I, params, y, dy as Tensor, needs, extras);
        },
      });
    }
    for (const extra of extras) extra.dispose();
    return y;
  };
  return Object.assign(call, { spec });
}

const isTensor = (made: Tensor | readonly Tensor[]): made is Tensor => "shape" in made;

/** A forward may return an input as it is; the tape needs a handle of its own. */
function ownHandles(made: Tensor | readonly [Tensor, ...Tensor[]], inputs: readonly Tensor[]): typeof made {
  if (!isTensor(made)) return [ownHandles(made[0], inputs) as Tensor, ...made.slice(1)];
  return inputs.includes(made) ? made.alias() : made;
}
