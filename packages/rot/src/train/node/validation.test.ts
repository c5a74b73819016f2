/** Validation while a stage runs: what it says is what evaluation says of the checkpoint, and what follows from it. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { key } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll, beforeAll } from "vitest";
import { fingerprint, temporary, tinyRun } from "../../../test/tools/tiny-run.ts";
import { openBundle } from "../../bundle/node/index.ts";
import type { Sample } from "../../data/sample.ts";
import { split } from "../../data/split.ts";
import { syntheticSamples } from "../../data/synthetic.ts";
import { evaluate } from "../../evaluate/evaluate.ts";
import { subjectOf } from "../../evaluate/node/evaluate-bundle.ts";
import { listCheckpoints } from "../checkpoint-folder.ts";

let folder: Awaited<ReturnType<typeof temporary>>;
beforeAll(async () => {
  folder = await temporary();
});
afterAll(() => folder[Symbol.asyncDispose]());
const at = (...names: string[]): string => join(folder.path, ...names);

const TOKENS = 6;
const SHARE = 0.4;
const settings = {
  "data.validation_share": String(SHARE),
  "training.max_steps": "4",
  "validation.every": "2",
  "validation.accuracy_samples": "5",
  "validation.max_new_tokens": String(TOKENS),
  "optimizer.warmup_steps": "0",
  "checkpoint.every": "2",
  "checkpoint.keep_last": "4",
};
const rows = syntheticSamples(key(1), 0, 16);

async function write(name: string, samples: readonly Sample[]): Promise<string> {
  await writeFile(at(name), samples.map((sample) => `${JSON.stringify(sample)}\n`).join(""));
  return at(name);
}

const metricsOf = async (run: string) =>
  (await readFile(at(run, "metrics.jsonl"), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number>)
    .filter((row) => "validation" in row);

test.for([
  ["latents", { stage: "1" }],
  ["text", { stage: "sft", "training.chain": "false" }],
] as const)(
  "the accuracy is what evaluation finds in the checkpoint: %s",
  { timeout: 60_000 },
  async ([name, given], { device }) => {
    const first = await tinyRun(device, at(name), {
      ...settings,
      ...given,
      "data.dataset": await write("rows.jsonl", rows),
    });
    const bundle = await openBundle(first.outcomes[0]?.checkpoint as string, device, { checkpoint: "latest" });
    const { validation } = split(rows, SHARE, 0);
    const asked = validation.slice(0, 5);
    expect(asked).toHaveLength(5);
    const said = new Map<string, string>();
    const options = {
      arms: ["own"],
      seeds: [0],
      batchSize: 5,
      maxNewTokens: TOKENS,
      temperature: 0,
      topP: 1,
      rule: "robust",
    } as const;
    for await (const answers of evaluate(subjectOf(bundle), asked, options)) {
      for (const { question, predicted_answer: answer } of answers) if (answer) said.set(question, answer);
    }
    bundle.dispose();
    expect(said.size, "answers that a random model writes").toBeGreaterThan(0);

    // The same run on rows whose answers are what it will say: other answers of validation rows change no parameter.
    const right = rows.map((row) => ({ ...row, answer: said.get(row.question) ?? "nothing of the kind" }));
    const changed = rows.map((row, i) => (validation.includes(row) ? (right[i] as Sample) : row));
    const dataset = await write(`${name}.jsonl`, changed);
    const run = `${name} again`;
    await tinyRun(device, at(run), { ...settings, ...given, "data.dataset": dataset });
    const found = await metricsOf(run);
    expect(found.map(({ step }) => step)).toEqual([2, 4]);
    expect(found[1]?.["validation_accuracy"]).toBe(said.size / 5);
  },
);

test("the best by accuracy is kept, and a run that is stopped in between has the same metrics", async ({ device }) => {
  const given = {
    ...settings,
    stage: "1",
    "data.dataset": await write("rows.jsonl", rows),
    "validation.metric_for_best_model": "accuracy",
    "checkpoint.keep_last": "1",
  };
  await tinyRun(device, at("whole"), given);
  const want = await fingerprint(at("whole"), 4);
  // The accuracies are alike, so that the loss decides.
  const found = await metricsOf("whole");
  const best = (found[0]?.["validation"] as number) <= (found[1]?.["validation"] as number) ? 2 : 4;
  expect(await listCheckpoints(at("whole", "checkpoints"))).toEqual(best === 2 ? [2, 4] : [4]);
  for (const k of [2, 3]) {
    await tinyRun(device, at(`stopped ${k}`), given, { stopAfter: k });
    await tinyRun(device, at(`stopped ${k}`), given, { resume: true });
    expect(await fingerprint(at(`stopped ${k}`), 4), `stopped after ${k}`).toEqual(want);
  }
});

test("what needs rows to validate on says so, and an accuracy that nobody asked for too", async ({ device }) => {
  await mkdir(at("none"));
  for (const [key, value] of [
    ["validation.patience", "2"],
    ["validation.metric_for_best_model", "accuracy"],
  ] as const) {
    await expect(
      tinyRun(device, at("none", key), { stage: "1", "data.validation_share": "0", [key]: value }),
    ).rejects.toThrow(`${key}: there are no rows to validate on; raise data.validation_share (0)`);
  }
  const given = { "validation.metric_for_best_model": "accuracy", "validation.accuracy_samples": "0" };
  await expect(tinyRun(device, at("none", "asked"), { stage: "1", ...given })).rejects.toThrow(
    "validation.metric_for_best_model is accuracy, and validation.accuracy_samples is 0: raise it, or choose loss",
  );
});
