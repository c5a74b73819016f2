/** Every golden case of the cross-entropy: its logits as hidden states, before a head that is the identity. */
import { grad, pad, requireGrad, slice, tensor, type Tensor } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { cases, load, numbers, tolerances } from "../../../tensor/test/tools/golden-ops.ts";
import { linearCrossEntropy } from "./cross-entropy.ts";

const own = cases.filter(({ op }) => op === "cross_entropy");

test("there are golden cases", () => {
  expect(own.length).toBeGreaterThan(0);
});

test.for(own)(
  "$case",
  async ({ file, attrs, inputs, ints, outputs, grads, tolerance = tolerances.product }, { device }) => {
    const logits = requireGrad(await load(device, file, inputs?.["logits"] as string));
    const given = await load(device, file, ints?.["labels"] as string);
    const isShifted = typeof attrs["note"] === "string" && attrs["note"].includes("t+1");
    const ignoreIndex = Number(attrs["ignore_index"] ?? -100);
    const widths = [
      [0, 0],
      [0, 1],
    ] as const;
    const labels: Tensor = isShifted ? pad(slice(given, null, [1]), widths, ignoreIndex) : given;
    const V = logits.shape.at(-1) as number;
    const identity = Float32Array.from({ length: V * V }, (_, i) => (i % (V + 1) === 0 ? 1 : 0));
    const head = tensor(device, identity, { shape: [V, V] });
    for (const workspace of [2 ** 20, 1]) {
      for (const weight of [head, requireGrad(head.alias())]) {
        const loss = linearCrossEntropy(logits, weight, labels, { ignoreIndex, workspace });
        await expect(loss).toBeClose(await numbers(file, outputs?.["loss"] as string), tolerance);
        const leaves = weight.requiresGrad ? [logits, weight] : [logits];
        const [dLogits] = grad(loss, leaves) as [Tensor];
        await expect(dLogits).toBeClose(await numbers(file, grads?.["logits"] as string), tolerance);
      }
    }
  },
);
