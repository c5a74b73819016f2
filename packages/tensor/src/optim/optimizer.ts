/// <reference lib="esnext.disposable" preserve="true" />
/** What every optimizer is: groups of parameters and what is kept for each of them. */
import { bits, isFloat } from "../dtype.ts";
import { ShapeError, UsageError, WeightError } from "../errors.ts";
import { assign } from "../ops/assign.ts";
import { cast } from "../ops/cast.ts";
import { zeros } from "../ops/create.ts";
import { keep, scope } from "../scope.ts";
import { print, sameShape } from "../shape.ts";
import { untaped } from "../tape.ts";
import { Tensor } from "../tensor.ts";
import { firstOverlap } from "./overlap.ts";
import { checkState, type OptimizerState, type SavedParameter } from "./state.ts";
import type { Pair, Updated } from "./update.ts";

/** Parameters that are trained with the same numbers. The numbers may be changed between steps. */
export type Group<O> = { readonly parameters: readonly Tensor[] } & O;

/** Parameters, or groups of them with numbers of their own. */
export type Parameters<O> = readonly Tensor[] | readonly (Partial<O> & { readonly parameters: readonly Tensor[] })[];

/** A parameter and what is kept for it. */
export interface Trained<S extends string> extends Updated<S> {
  /** The steps that have changed it, with the present one. */
  step: number;
  /** Whether some of its state was made for this very step. */
  fresh: boolean;
}

interface Slot<S extends string> extends Trained<S> {
  master: Tensor | null;
  readonly state: Record<S, Tensor>;
  /** The version of its memory that the optimizer wrote last: another one means that somebody else wrote since. */
  version: number;
}

/** What a slot holds for its parameter. */
const tensorsOf = ({ master, state }: Slot<string>): Tensor[] => [...Object.values(state), ...(master ? [master] : [])];

interface Work<O> {
  readonly parameter: Tensor;
  readonly group: Group<O>;
}

export abstract class Optimizer<O extends { lr: number }, S extends string> {
  /** Read and change them at will: `optimizer.groups[0].weightDecay = 0`. */
  readonly groups: readonly Group<O>[];
  readonly #parameters: readonly Tensor[];
  readonly #slots = new Map<Tensor, Slot<S>>();
  /** The names of the numbers, ours and PyTorch's. */
  readonly #names: Readonly<Record<keyof O & string, string>>;

  /** @throws {UsageError} when there is no parameter, one is given twice or is no float, or a number makes no sense */
  constructor(parameters: Parameters<O>, defaults: O, names: Readonly<Record<keyof O & string, string>>) {
    const plain = parameters.every((item) => item instanceof Tensor);
    const groups = (plain ? [{ parameters }] : parameters) as readonly Group<O>[];
    this.groups = groups.map((group) => ({ ...defaults, ...group }));
    this.#names = names;
    this.#parameters = this.groups.flatMap((group) => group.parameters);
    if (this.#parameters.length === 0) throw this.#error("it has no parameters");
    for (const [i, { shape, dtype }] of this.#parameters.entries()) {
      if (!isFloat(dtype)) throw this.#error(`parameter ${i} ${print(shape)} is ${dtype}, not a float`);
    }
    const twice = firstOverlap(this.#parameters);
    if (twice >= 0)
      throw this.#error(`parameter ${twice} ${print(this.#parameters[twice]?.shape ?? [])} is given twice`);
    for (const group of this.groups) this.#check(group);
  }

  /** Says what is wrong with the numbers of a group, if anything. */
  protected abstract complaint(group: Group<O>): string | undefined;

  /** The state that a group's parameters need. */
  protected abstract stateNames(group: Group<O>): readonly S[];

  /**
   * Changes parameters of one group.
   *
   * @param step   that of each of them
   * @param fresh  whether some of the state of each was made for this very step
   */
  protected abstract update(pairs: readonly Pair<Trained<S>>[], step: number, group: Group<O>, fresh: boolean): void;

  /** The learning rate of the first group. Setting it sets that of every group. */
  get lr(): number {
    return (this.groups[0] as Group<O>).lr;
  }

  set lr(lr: number) {
    for (const group of this.groups) (group as { lr: number }).lr = lr;
  }

  /**
   * Changes every parameter that has a gradient, in place. The others stay as they are, weight decay included.
   *
   * A parameter of 16 bits is kept in f32 here and rounded into its own memory; when somebody else writes to it, that
   * value is taken over.
   *
   * @param gradients  one for each parameter, in the order of the groups, null to skip it; by default each one's `.grad`
   * @throws {ShapeError} when a gradient does not fit its parameter
   * @throws {OutOfMemoryError} when there is no room for the state; nothing has changed then
   */
  step(gradients: readonly (Tensor | null)[] = this.#parameters.map(({ grad }) => grad)): void {
    if (gradients.length !== this.#parameters.length) {
      throw this.#error(`${gradients.length} gradients for ${this.#parameters.length} parameters`);
    }
    let i = 0;
    const work: (Work<O> & { readonly gradient: Tensor })[] = [];
    for (const group of this.groups) {
      this.#check(group);
      for (const parameter of group.parameters) {
        const gradient = gradients[i];
        if (gradient && !sameShape(gradient.shape, parameter.shape)) {
          throw new ShapeError(
            `${this.constructor.name}: gradient ${i} is ${print(gradient.shape)}, its parameter ${print(parameter.shape)}`,
          );
        }
        if (gradient) work.push({ parameter, gradient, group });
        i++;
      }
    }
    this.#prepare(work);
    const slots = work.map(({ parameter }) => this.#slots.get(parameter) as Slot<S>);
    // Parameters may be rows of one memory, which has one version: first all are looked at, then all are changed.
    const all = [...this.#slots.values()];
    const stale = new Set(all.filter(({ parameter, version }) => version !== parameter.storage.version));
    for (const slot of slots) if (stale.delete(slot) && slot.master) this.#overwrite(slot.master, slot.parameter);
    for (const slot of slots) slot.step++;
    for (let at = 0; at < work.length;) {
      const { group } = work[at] as Work<O>;
      const { step, fresh } = slots[at] as Slot<S>;
      const alike = (i: number): boolean =>
        work[i]?.group === group && slots[i]?.step === step && slots[i]?.fresh === fresh;
      const pairs: Pair<Slot<S>>[] = [];
      for (; alike(at); at++) {
        pairs.push({ trained: slots[at] as Slot<S>, gradient: (work[at] as (typeof work)[0]).gradient });
      }
      this.update(pairs, step, group, fresh);
    }
    for (const slot of slots) slot.fresh = false;
    for (const slot of all) if (!stale.has(slot)) slot.version = slot.parameter.storage.version;
  }

  /** Makes the state that is missing: all of it or, if memory ends, none. */
  #prepare(work: readonly Work<O>[]): void {
    const isThere = (tensor: Tensor | null | undefined): tensor is Tensor => !!tensor && !tensor.isDead;
    scope(() =>
      untaped(() => {
        const made: Slot<S>[] = [];
        for (const { parameter, group } of work) {
          const slot = this.#slots.get(parameter);
          const names = this.stateNames(group);
          const narrow = bits(parameter.dtype) === 16;
          const missing = names.filter((name) => !isThere(slot?.state[name]));
          if (slot && missing.length === 0 && (!narrow || isThere(slot.master))) continue;
          const fresh = missing.map((name) => [name, zeros(parameter.device, parameter.shape)] as const);
          const known = isThere(slot?.master) ? slot : undefined;
          const version = known?.version ?? parameter.storage.version;
          const master = known?.master ?? (narrow ? cast(parameter, "f32") : null);
          const state = { ...slot?.state, ...Object.fromEntries(fresh) } as Record<S, Tensor>;
          made.push({ parameter, master, state, step: slot?.step ?? 0, fresh: true, version });
        }
        for (const slot of made) {
          const before = this.#slots.get(slot.parameter);
          for (const tensor of before ? tensorsOf(before) : []) if (tensor.isDead) tensor.dispose();
          this.#slots.set(slot.parameter, slot);
          for (const tensor of tensorsOf(slot)) keep(tensor);
        }
      }),
    );
  }

  #overwrite(own: Tensor, given: Tensor): void {
    untaped(() => assign(own, given));
  }

  /** Frees the gradient of every parameter. */
  zeroGrad(): void {
    for (const { node } of this.#parameters) {
      node?.grad?.dispose();
      if (node) node.grad = null;
    }
  }

  /** All that the optimizer carries from step to step, under PyTorch's names; of 16-bit parameters also their f32 `master`. */
  stateDict(): OptimizerState {
    let at = 0;
    const state = this.#parameters.flatMap((parameter, i) => {
      const slot = this.#slots.get(parameter);
      const master = slot?.master ? { master: slot.master } : {};
      return slot ? [[i, { step: slot.step, ...slot.state, ...master }] as const] : [];
    });
    const groups = this.groups.map((group) => ({
      ...Object.fromEntries(Object.entries(this.#names).map(([ours, name]) => [name, group[ours as keyof O]])),
      params: group.parameters.map(() => at++),
    }));
    return { state: Object.fromEntries(state), param_groups: groups };
  }

  /**
   * Takes over what {@link stateDict} gave, of this optimizer or of PyTorch's: copies of its tensors, and its numbers.
   *
   * @throws {WeightError} when it belongs to other parameters or another optimizer; nothing has changed then
   */
  loadStateDict(saved: OptimizerState): void {
    const who = this.constructor.name;
    const allowed = (at: number, numbers: object): string[] => {
      const group = { ...this.groups[at], ...numbers } as Group<O>;
      const wrong = this.complaint(group);
      if (wrong) throw new WeightError(`${who}: group ${at} was saved with numbers that make no sense: ${wrong}`);
      return [...this.stateNames(group), "master"];
    };
    const loaded = checkState(saved, this.groups, this.#names, allowed, who);
    const work = this.groups.flatMap((group) => group.parameters.map((parameter) => ({ parameter, group })));
    this.dispose();
    for (const [i, numbers] of loaded.groups.entries()) Object.assign(this.groups[i] as Group<O>, numbers);
    this.#prepare(work.filter((_, i) => loaded.parameters[i]));
    for (const [i, one] of loaded.parameters.entries()) if (one) this.#load(this.#parameters[i] as Tensor, one);
  }

  #load(parameter: Tensor, { step, tensors }: SavedParameter): void {
    const slot = this.#slots.get(parameter) as Slot<S>;
    slot.step = step;
    slot.fresh = Object.keys(slot.state).some((name) => !(name in tensors));
    for (const [name, tensor] of Object.entries(tensors)) {
      const own = name === "master" ? slot.master : slot.state[name as S];
      if (own) this.#overwrite(own, tensor);
    }
  }

  /** Frees the state; the parameters stay. */
  dispose(): void {
    for (const slot of this.#slots.values()) for (const tensor of tensorsOf(slot)) tensor.dispose();
    this.#slots.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(group: Group<O>): void {
    const wrong = this.complaint(group);
    if (wrong) throw this.#error(wrong);
  }

  #error(what: string): UsageError {
    return new UsageError(`${this.constructor.name}: ${what}`);
  }
}
