/** An op forward, and forward and backward, beside its reference in primitives, and at each setting of its kernels. */
import {
  type Device,
  grad,
  isFloat,
  type Op,
  requireGrad,
  scope,
  size,
  type Tensor,
  tensor,
  untaped,
} from "@rot/tensor";
import type { Candidate } from "../benchmark.ts";
import { noise } from "../noise.ts";

type AnyOp = Op<readonly Tensor[], unknown>;

/**
 * The candidates of a problem.
 *
 * @param knobs  whether to add one for every setting of its kernels that the device can run
 */
export function opCandidates(
  device: Device,
  op: AnyOp,
  inputs: readonly Tensor[],
  params: unknown,
  knobs: boolean,
): Candidate[] {
  const { spec } = op;
  const leaves = inputs.filter(({ dtype }) => isFloat(dtype)).map((input) => requireGrad(input));
  const run = (): Tensor => op(...inputs, params);
  const reference = (): Tensor => spec.reference?.(inputs, params) ?? run();
  const shape = scope(() => untaped(run).shape);
  const dy = tensor(device, noise(size(shape), 9), { shape });
  const both = (name: string, f: () => Tensor, suffix = "", against?: string): Candidate[] => {
    const named = (what: string) => ({
      name: `${what}${name}${suffix}`,
      ...(against && { reference: `${what}${against}` }),
    });
    return [
      { ...named("forward"), run: () => untaped(f) },
      { ...named("forward + backward"), run: () => grad(f(), leaves, { cotangent: dy }) },
    ];
  };
  const plain = ", reference";
  const candidates = [...(spec.reference ? both(plain, reference) : []), ...both("", run, "", spec.reference && plain)];
  if (!knobs) return candidates;
  for (const kernel of spec.kernels ?? []) {
    for (const setting of kernel.settings().filter((one) => kernel.runsOn(device, one))) {
      const words = Object.entries(setting).map(([knob, value]) => `${knob} ${value}`);
      const suffix = `, ${kernel.kernelName} ${words.join(" ")}`;
      const isBackward = kernel.kernelName.endsWith(".backward");
      const forced = both("", run, suffix, spec.reference && plain).slice(isBackward ? 1 : 0);
      candidates.push(
        ...forced.map((candidate) => ({ ...candidate, run: () => kernel.with(setting, () => candidate.run?.()) })),
      );
    }
  }
  return candidates;
}
