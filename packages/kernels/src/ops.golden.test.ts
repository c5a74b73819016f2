/** The golden operators through the fused ops: outputs and gradients as PyTorch computed them in double precision. */
import { type Device, grad, linear, permute, requireGrad, sum, Tensor, tensor } from "@rot/tensor";
import { expect, test, type Tolerance } from "@rot/tensor/testing";
import {
  all,
  cases,
  type GoldenCase,
  load,
  type Numbers,
  numbers,
  tolerances,
} from "../../tensor/test/tools/golden-ops.ts";
import {
  inverseFrequencies,
  multimodalRotation,
  patchRotation,
  type Rotation,
  textRotation,
} from "../../tensor/test/tools/position-tables.ts";
import { attention, type AttentionRule, layerNorm, rmsNorm, rotary, swiglu } from "./index.ts";

/** A case with its tensors at hand. */
interface Run {
  readonly device: Device;
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly host: Readonly<Record<string, Numbers>>;
  readonly attrs: Readonly<Record<string, unknown>>;
}
type Operator = (run: Run) => Tensor | Readonly<Record<string, Tensor>>;

const norm =
  (of: (x: Tensor, weight: Tensor, bias: Tensor, eps: number) => Tensor): Operator =>
  ({ tensors: { x, weight, bias }, attrs }) =>
    of(x as Tensor, weight as Tensor, bias as Tensor, attrs["eps"] as number);

/** Turns by a table, [L, K] or [B, L, K]. */
function turn({ device }: Run, x: Tensor, { cos, sin }: Rotation, heads: "first" | "last"): Tensor {
  const [c, s] = [cos, sin].map(({ shape, values }) =>
    tensor(device, Float64Array.from(values), {
      // With heads before tokens every table of a batch gets an axis for them.
      shape: heads === "first" && shape.length === 3 ? shape.toSpliced(1, 0, 1) : shape,
    }),
  ) as [Tensor, Tensor];
  return rotary(x, c, s, { heads: heads === "last" });
}

const frequencies = ({ tensors, attrs }: Run, share: number): readonly number[] =>
  inverseFrequencies(((tensors["q"] as Tensor).shape.at(-1) as number) / share, attrs["theta"] as number);

/** Rules that hide every run of keys whose mask [B, Lk] is 0. */
function hiding({ shape: [B = 0, Lk = 0], values }: Numbers, Lq: number): AttentionRule[] {
  const rules: AttentionRule[] = [];
  for (let sequence = 0; sequence < B; sequence++) {
    const isHidden = (key: number): boolean => key < Lk && values[sequence * Lk + key] === 0;
    for (let begin = 0; begin < Lk; begin++) {
      if (!isHidden(begin)) continue;
      let end = begin;
      while (isHidden(end)) end++;
      rules.push({ queries: [0, Lq], keys: [begin, end], bias: -Infinity, sequence });
      begin = end;
    }
  }
  return rules;
}

/** The operators and how close each must come. */
const operators: Readonly<Record<string, readonly [Operator, Tolerance]>> = {
  rms_norm: [norm((x, weight, _, eps) => rmsNorm(x, weight, { eps })), tolerances.elementwise],
  layer_norm: [norm((x, weight, bias, eps) => layerNorm(x, weight, bias, { eps })), tolerances.elementwise],
  swiglu: [
    ({ tensors: { x, gate, up, down } }) => {
      const into = (weight: Tensor): Tensor => linear(x as Tensor, weight);
      return linear(swiglu(into(gate as Tensor), into(up as Tensor)), down as Tensor);
    },
    tolerances.product,
  ],
  rotary: [
    (run) => {
      const table = textRotation(
        run.attrs["positions"] as number[],
        run.host["inv_freq"]?.values ?? frequencies(run, 1),
      );
      const { q, k } = run.tensors;
      return { q_rot: turn(run, q as Tensor, table, "first"), k_rot: turn(run, k as Tensor, table, "first") };
    },
    tolerances.elementwise,
  ],
  mrope: [
    (run) => {
      const ids = run.host["position_ids"] as Numbers;
      const table = multimodalRotation(ids, run.attrs["lane_axis"] as string, frequencies(run, 1));
      return turn(run, run.tensors["q"] as Tensor, table, "first");
    },
    tolerances.elementwise,
  ],
  attention: [
    ({ tensors, host, attrs }) => {
      // The golden data has heads before tokens.
      const [q, k, v] = ["q", "k", "v"].map((name) => permute(tensors[name] as Tensor, [0, 2, 1, 3])) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const y = attention(q, k, v, {
        scale: attrs["scale"] as number,
        causal: attrs["causal"] as boolean,
        rules: host["mask"] ? hiding(host["mask"], q.shape[1] as number) : [],
      });
      return permute(y, [0, 2, 1, 3]);
    },
    tolerances.product,
  ],
  vision_rope: [
    (run) => {
      const table = patchRotation(run.host["position_ids"] as Numbers, frequencies(run, 2));
      return turn(run, run.tensors["q"] as Tensor, table, "last");
    },
    tolerances.elementwise,
  ],
};

async function check(one: GoldenCase, device: Device, [operator, usual]: readonly [Operator, Tolerance]) {
  const { file, attrs, inputs, ints, outputs = {}, upstream, grads = {}, extra } = one;
  const tolerance = one.tolerance ?? usual;
  const onDevice = (key: string) => load(device, file, key);
  const onHost = (key: string) => numbers(file, key);
  const tensors = await all(inputs, onDevice);
  const host = { ...(await all(ints, onHost)), ...(await all(extra, onHost)) };
  const leaves = Object.keys(grads).map((name) => requireGrad(tensors[name] as Tensor));

  const result = operator({ device, tensors, host, attrs });
  const ys = result instanceof Tensor ? { [Object.keys(outputs)[0] as string]: result } : result;
  const cotangents = await all(upstream, onDevice);
  const terms: Tensor[] = [];
  for (const [name, key] of Object.entries(outputs)) {
    const y = ys[name] as Tensor;
    await expect(y, name).toBeClose(await onHost(key), tolerance);
    terms.push(sum(y.mul(cotangents[name] as Tensor)));
  }
  const gradients = grad(
    terms.reduce((a, b) => a.add(b)),
    leaves,
  );
  for (const [i, [name, key]] of Object.entries(grads).entries()) {
    await expect(gradients[i] as Tensor, `gradient of ${name}`).toBeClose(await onHost(key), tolerance);
  }
}

const ours = cases.filter(({ op }) => op in operators).map((one) => [`${one.op} ${one.case}`, one] as const);

test("there are cases of every operator that is fused", () => {
  expect(new Set(ours.map(([, one]) => one.op))).toEqual(new Set(Object.keys(operators)));
});

test.for(ours)("%s", ([, one], { device }) => check(one, device, operators[one.op] as [Operator, Tolerance]));
