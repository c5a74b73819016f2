/** Every case of the golden operators: outputs and gradients as PyTorch computed them in double precision. */
import { type Operator, operators, type Run } from "../test/tools/golden-operators.ts";
import { all, cases, folder, type GoldenCase, load, numbers } from "../test/tools/golden-ops.ts";
import { records } from "../test/tools/golden-records.ts";
import type { Device } from "./gpu/device.ts";
import { grad } from "./grad.ts";
import { add, mul } from "./ops/binary.ts";
import { sum } from "./ops/reduce.ts";
import { requireGrad } from "./tape.ts";
import { Tensor } from "./tensor.ts";
import { expect, test, type Tolerance } from "./testing.ts";

/** Runs an operator, and compares its outputs and every gradient that the case lists. */
async function checkOperator(one: GoldenCase, device: Device, [operator, usual]: readonly [Operator, Tolerance]) {
  const { file, attrs, inputs, ints, outputs = {}, upstream = {}, grads = {}, extra } = one;
  const tolerance = one.tolerance ?? usual;
  const onDevice = (key: string) => load(device, file, key);
  const onHost = (key: string) => numbers(file, key);
  const tensors = { ...(await all(inputs, onDevice)), ...(await all(ints, onDevice)) };
  const host = { ...(await all(ints, onHost)), ...(await all(extra, onHost)) };
  const attr: Run["attr"] = (name, type, given) => {
    const value = attrs[name] ?? given;
    if (typeof value !== type) throw new Error(`${one.op} ${one.case}: attribute ${name} is ${JSON.stringify(value)}`);
    return value as never;
  };
  const wanted = Object.keys(grads);
  for (const name of wanted) requireGrad(tensors[name] as Tensor);

  const result = operator({ device, tensors, host, attrs, attr });
  const names = Object.keys(outputs);
  const ys = result instanceof Tensor ? { [names[0] as string]: result } : result;
  expect(Object.keys(ys).toSorted(), "its outputs").toEqual(names.toSorted());
  for (const [name, key] of Object.entries(outputs)) {
    await expect(ys[name] as Tensor, name).toBeClose(await onHost(key), tolerance);
  }
  if (wanted.length === 0) return;
  const cotangents = await all(upstream, onDevice);
  const total = Object.entries(ys)
    .map(([name, y]) => (y.rank === 0 ? y : sum(mul(y, cotangents[name] as Tensor))))
    .reduce((a, b) => add(a, b));
  const gradients = grad(
    total,
    wanted.map((name) => tensors[name] as Tensor),
  );
  for (const [i, name] of wanted.entries()) {
    await expect(gradients[i] as Tensor, `gradient of ${name}`).toBeClose(
      await onHost(grads[name] as string),
      tolerance,
    );
  }
}

const titled = cases.map((one) => [`${one.op} ${one.case}`, one] as const);

test.for(titled)("%s", async ([, one], { device }) => {
  const operator = operators[one.op];
  const record = records[one.op];
  if (operator) return checkOperator(one, device, operator);
  if (record) return record(one, device);
  throw new Error(`${folder} has cases of ${one.op}, which no operator here stands for`);
});
