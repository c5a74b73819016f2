/** The saved form of an optimizer: PyTorch's `state_dict`, checked before anything is taken from it. */
import { WeightError } from "../errors.ts";
import { print, sameShape } from "../shape.ts";
import { Tensor } from "../tensor.ts";

/** Everything an optimizer carries from step to step, under PyTorch's names. */
export interface OptimizerState {
  /** By the number of the parameter. The tensors are the optimizer's own: read or copy them before the next step. */
  readonly state: Readonly<Record<string, Readonly<Record<string, Tensor | number | null>>>>;
  /** The numbers of each group, and in `params` those of its parameters, counted over all groups. */
  readonly param_groups: readonly Readonly<Record<string, unknown>>[];
}

/** What was saved of one parameter. */
export interface SavedParameter {
  readonly step: number;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** Options of PyTorch that change what a step does, and that no optimizer here has. */
const foreign = ["amsgrad", "maximize"];

/**
 * Reads a saved state for these groups.
 *
 * @param names    the names of a group's numbers, ours and PyTorch's
 * @param allowed  the names of the tensors that a parameter may have in a group with such numbers
 * @throws {WeightError} when they do not fit
 */
export function checkState(
  saved: OptimizerState,
  groups: readonly { readonly parameters: readonly Tensor[] }[],
  names: Readonly<Record<string, string>>,
  allowed: (group: number, numbers: Readonly<Record<string, unknown>>) => readonly string[],
  who: string,
): { groups: Record<string, unknown>[]; parameters: (SavedParameter | null)[] } {
  if (saved.param_groups.length !== groups.length) {
    throw new WeightError(`${who}: ${saved.param_groups.length} groups were saved, there are ${groups.length}`);
  }
  const parameters: (SavedParameter | null)[] = [];
  const read = saved.param_groups.map((group, g) => {
    const own = (groups[g] as { readonly parameters: readonly Tensor[] }).parameters;
    const ids = group["params"];
    if (!Array.isArray(ids) || ids.length !== own.length) {
      const count = Array.isArray(ids) ? ids.length : "no";
      throw new WeightError(`${who}: group ${g} was saved with ${count} parameters, it has ${own.length}`);
    }
    const wrong = foreign.find((option) => group[option] === true);
    if (wrong) throw new WeightError(`${who}: group ${g} was saved with ${wrong}, which is not supported`);
    const numbers = Object.fromEntries(
      Object.entries(names).map(([ours, name]) => {
        if (group[name] === undefined) throw new WeightError(`${who}: group ${g} was saved without ${name}`);
        return [ours, group[name]];
      }),
    );
    const known = allowed(g, numbers);
    for (const [i, parameter] of own.entries()) {
      const id = String(ids[i]);
      const one = saved.state[id];
      parameters.push(one ? readParameter(one, parameter, known, `${who}: parameter ${id}`) : null);
    }
    return numbers;
  });
  return { groups: read, parameters };
}

function readParameter(
  saved: Readonly<Record<string, Tensor | number | null>>,
  { shape }: Tensor,
  known: readonly string[],
  who: string,
): SavedParameter {
  const { step = 0, ...rest } = saved;
  if (typeof step !== "number" || !Number.isInteger(step) || step < 0) {
    throw new WeightError(`${who}: its step is ${String(step)}, not a count`);
  }
  const tensors: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (value === null) continue; // PyTorch's SGD saves an empty momentum so
    if (!known.includes(name)) throw new WeightError(`${who}: ${name} is not among ${known.join(", ")}`);
    if (!(value instanceof Tensor) || !sameShape(value.shape, shape)) {
      const what = value instanceof Tensor ? print(value.shape) : String(value);
      throw new WeightError(`${who}: ${name} is ${what}, the parameter ${print(shape)}`);
    }
    tensors[name] = value;
  }
  return { step, tensors };
}
