/** Token rows that learn, against the gradient of the whole tables and against differences of the loss. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { linearCrossEntropy } from "@rot/kernels";
import { describeModel, randomModel, weightsOf } from "@rot/models";
import { assign, type Device, gatherRows, grad, key, randn, requireGrad, type Tensor, untaped } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import type { MarkerRecord } from "../bundle/config.ts";
import { EMBEDDING_KEY, writeMarkers } from "../bundle/markers.ts";
import { trainMarkers } from "../bundle/trained-markers.ts";
import { createHead, projectionHead } from "../methods/rot/head.ts";
import { rotLosses, rotStep, type StepOptions } from "../methods/rot/step.ts";
import { withRowGradients } from "./token-rows.ts";

const json = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../../models/test/golden/qwen3vl_tiny/config.json"), "utf8"),
) as { readonly text_config: { readonly hidden_size: number } };
const D = json.text_config.hidden_size;
const markers: MarkerRecord = { own: true, begin: 7, end: 0, vocabulary: describeModel(json).config.text.V };

/**
 * Each begins its latents with a marker, and ends them with one; the first also speaks of them. 0 stands for latents and
 * padding too, which are no markers.
 */
const texts = [
  { question: [11, 0, 7, 30, 7], answer: [0, 40, 7, 41] },
  { question: [12, 13, 7], answer: [0, 42] },
];

function open(device: Device, { tied = true, dtype = "f32" as "f32" | "bf16", latents = [3, 2] } = {}) {
  const config = {
    ...json,
    tie_word_embeddings: tied,
    text_config: { ...json.text_config, tie_word_embeddings: tied },
  };
  const pretrained = randomModel(config, device, { seed: 1, dtype, std: 0.2 });
  const shape = { width: D, hidden: 12, activation: "gelu" } as const;
  const head = projectionHead(weightsOf(createHead(shape, device, 2), device), shape);
  const batch = texts.map(({ question, answer }, n) => ({
    question: Int32Array.from(question),
    answer: Int32Array.from(answer),
    target: randn(device, [latents[n] as number, D], { seed: key(3).for("target", n) }),
  }));
  const options: StepOptions = {
    trainsDecoder: true,
    loss: "mse_only",
    weights: { vision: 10, language: 1 },
    weighting: "sample",
  };
  return { pretrained, head, batch, options };
}

test.for([
  ["tied", true],
  ["of their own", false],
] as const)(
  "the gradients are the rows of the gradient of the whole tables; output rows %s",
  async ([, tied], { device }) => {
    const { pretrained, head, batch, options } = open(device, { tied });
    const { parameters, rows } = trainMarkers(pretrained, markers);
    expect([...parameters.keys()]).toHaveLength(tied ? 2 : 4);
    const { model, weights } = pretrained;
    const few = rotStep(model, head, batch, [...parameters.values()], { ...options, tokenRows: rows });

    const tables = [EMBEDDING_KEY, ...(tied ? [] : ["lm_head.weight"])].map((name) => weights.get(name) as Tensor);
    for (const table of tables) requireGrad(table);
    const all = rotStep(model, head, batch, tables, options);
    expect(await few.loss.item()).toBeCloseTo(await all.loss.item(), 5);
    const wanted = await Promise.all(all.gradients.map((gradient) => (gradient as Tensor).read()));
    for (const [i, name] of [...parameters.keys()].entries()) {
      const table = wanted[name.startsWith("lm_head.") ? 1 : 0] as Float32Array;
      const id = name.endsWith("begin") ? markers.begin : markers.end;
      const row = table.subarray(id * D, (id + 1) * D);
      const largest = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(largest, name).toBeGreaterThan(1e-4);
      await expect(few.gradients[i] as Tensor, name).toBeClose(row, { absolute: 1e-5 * largest + 1e-7 });
    }
  },
);

test("along the gradient the loss grows by its length", async ({ device }) => {
  // With one latent nothing is detached.
  const { pretrained, head, batch, options } = open(device, { latents: [1, 1] });
  const { model, weights } = pretrained;
  const { parameters, rows } = trainMarkers(pretrained, markers);
  const { gradients } = rotStep(model, head, batch, [...parameters.values()], { ...options, tokenRows: rows });
  const names = [...parameters.keys()];
  const lossAt = async (name: string, by: Tensor): Promise<number> => {
    const row = parameters.get(name) as Tensor;
    writeMarkers(weights, markers, new Map([[name, row.detach().add(by)]]));
    const loss = await rotLosses(model, head, batch, options).loss.item();
    writeMarkers(weights, markers, parameters);
    return loss;
  };
  for (const [i, name] of names.entries()) {
    const gradient = gradients[i] as Tensor;
    const length = await gradient.square().sum().sqrt().item();
    const step = gradient.mul(0.02 / length);
    const slope = ((await lossAt(name, step)) - (await lossAt(name, step.neg()))) / 0.04;
    expect(Math.abs(slope - length) / length, `${name}: ${slope}, not ${length}`).toBeLessThan(0.02);
  }
});

test("over 16-bit tables the loss is that of the rounded rows", async ({ device }) => {
  const { pretrained, head, batch, options } = open(device, { dtype: "bf16" });
  const { model } = pretrained;
  const { parameters, rows, place } = trainMarkers(pretrained, markers);
  // Numbers that bf16 does not have, as steps of an optimizer leave them.
  for (const row of parameters.values()) untaped(() => assign(row, row.mul(1.001)));
  place();
  const plain = rotLosses(model, head, batch, options);
  const { loss } = rotStep(model, head, batch, [...parameters.values()], { ...options, tokenRows: rows });
  expect(await loss.item()).toBeCloseTo(await plain.loss.item(), 5);
});

test("over 16-bit tables gradients are not rounded", async ({ device }) => {
  const narrow = randn(device, [10, 8], { seed: 1 }).to("bf16");
  const hidden = randn(device, [3, 8], { seed: 2 });
  const labels = Int32Array.of(4, 1, 4);
  const of = async (table: Tensor): Promise<Float32Array> => {
    const row = requireGrad(gatherRows(table, Int32Array.of(4)).to("f32").reshape(-1).detach());
    const rows = { ids: [4], embedding: [row], head: [row], dtype: table.dtype };
    const losses = linearCrossEntropy(hidden, table, labels, { reduction: "none" });
    const [gradient] = grad(withRowGradients(losses, hidden, table, labels, rows).sum(), [row]);
    return (await (gradient as Tensor).read()) as Float32Array;
  };
  const want = await of(narrow.to("f32"));
  for (const [d, value] of (await of(narrow)).entries()) expect(value).toBeCloseTo(want[d] as number, 5);
});
