/** Runs that went out to the published layout, came back, and are trained on. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Device, key, UsageError, WeightError } from "@rot/tensor";
import { fromBytes, openSafetensors } from "@rot/tensor/safetensors";
import { openFile, writeFileAtomically } from "@rot/tensor/safetensors/node";
import { expect, test } from "@rot/tensor/testing";
import { afterAll, describe } from "vitest";
import { parse } from "yaml";
import { tinyModel, tinyRun } from "../../test/tools/tiny-run.ts";
import { openBundle } from "../bundle/node/index.ts";
import { loadConfig } from "../config/load.ts";
import type { RunConfig } from "../config/schema.ts";
import { syntheticSamples } from "../data/synthetic.ts";
import { evaluate } from "../evaluate/evaluate.ts";
import { subjectOf } from "../evaluate/node/index.ts";
import { trainRun } from "../train/node/train-run.ts";
import { exportCheckpoint } from "./export/index.ts";
import { importCheckpoint, type ImportOptions } from "./import/index.ts";
import { openTorchFile } from "./torch-pickle/reader.ts";
import { type PickleValue, TorchTensor, Tuple } from "./torch-pickle/values.ts";
import { type TensorToWrite, writeTorchFile } from "./torch-pickle/writer.ts";
import type { WritableValue } from "./torch-pickle/pickle.ts";

const root = mkdtempSync(join(tmpdir(), "rot-resume-"));
afterAll(() => rmSync(root, { recursive: true }));
let made = 0;
const place = (): string => join(root, String(made++));

const steps = 4;
const begun = 2;
/** With the token tables of the published code, so that the same rows are scored before and after. */
const common = { "markers.mode": "reference", "training.max_steps": String(steps), "validation.accuracy_samples": "0" };

let first: Promise<string> | undefined;
/** A stage 1 for others to begin with. */
const stage1 = (device: Device): Promise<string> =>
  (first ??= (async () => {
    const folder = place();
    await tinyRun(device, folder, { ...common, stage: "1", "training.max_steps": "1" });
    return folder;
  })());

/** Trains on as `rot-cli train --resume` does: with the run's own configuration. Gives the losses by step. */
async function goOn(
  device: Device,
  run: string,
  change: (config: RunConfig) => RunConfig = (config) => config,
): Promise<{ losses: Map<number, number>; notes: string[] }> {
  const name = join(run, "config.yaml");
  const { config } = loadConfig({ name, text: readFileSync(name, "utf8") });
  const losses = new Map<number, number>();
  const notes: string[] = [];
  await trainRun(change(config), {
    openDevice: () => Promise.resolve(device),
    output: run,
    resume: true,
    events: {
      note: (text) => notes.push(text),
      stage: () => {},
      step: ({ step, losses: { loss } }) => losses.set(step, loss as number),
      validation: () => {},
      checkpoint: () => {},
    },
  });
  return { losses, notes };
}

/** What the latest checkpoint of a run answers to two questions. */
async function answersOf(device: Device, run: string): Promise<{ mode: string; predictions: string[] }> {
  const bundle = await openBundle(run, device, { checkpoint: "latest", dtype: "f32" });
  const predictions: string[] = [];
  const asked = syntheticSamples(key(1), 0, 2);
  for await (const rows of evaluate(subjectOf(bundle, { budget: 2 }), asked, {
    arms: ["own"],
    seeds: [0],
    batchSize: 2,
    maxNewTokens: 3,
    temperature: 0,
    topP: 1,
    rule: "robust",
  })) {
    predictions.push(...rows.map(({ prediction }) => prediction));
  }
  bundle.dispose();
  expect(predictions).toHaveLength(2);
  return { mode: bundle.config.mode, predictions };
}

/** A run that was trained so far, its export, and the import of that. */
async function travelled(device: Device, given: Readonly<Record<string, string>>) {
  const run = place();
  const settings = { ...common, ...given, ...(given["stage"] === "2" && { stage1_checkpoint: await stage1(device) }) };
  await tinyRun(device, run, settings, { stopAfter: begun });
  const published = place();
  const notes: string[] = [];
  const note = (text: string): void => void notes.push(text);
  await exportCheckpoint({
    input: run,
    to: "reference",
    output: published,
    device: () => Promise.resolve(device),
    checkpoint: "latest",
    note,
  });
  const name = join(run, "config.yaml");
  const output = place();
  const from = given["stage"] === "2" ? { stage1: published, stage2: published } : { stage1: published };
  const result = await importCheckpoint({
    ...from,
    base: tinyModel,
    output,
    config: { name, text: readFileSync(name, "utf8") },
    note,
  });
  return { run, published, output, result, notes };
}

describe("a run that went out and came back goes on with the losses that it has without", () => {
  test.for([
    ["stage 1", { stage: "1" }],
    ["stage 2, LoRA with dropout, and the head", { stage: "2", "stage2.freeze_head": "false" }],
    ["stage 2, full", { stage: "2", "stage2.mode": "full" }],
    ["stage 2, the output matrix", { stage: "2", "stage2.mode": "lm_head" }],
  ] as const)("%s", { timeout: 120_000 }, async ([name, given], { device }) => {
    const { run, published, output, result } = await travelled(device, given);
    expect(result.training).toMatchObject({ moments: [expect.stringMatching(/optim/)], data: true });
    const [direct, resumed] = [await goOn(device, run), await goOn(device, output)];
    expect([...resumed.losses.keys()]).toEqual([begun + 1, steps]);
    expect([...resumed.losses]).toEqual([...direct.losses]);
    if (name === "stage 1") {
      // The first loss depends on the weights alone; the others on the moments too.
      rmSync(join(published, "optimizer.bin"));
      const [to, notes] = [place(), [] as string[]];
      const file = join(run, "config.yaml");
      const config = { name: file, text: readFileSync(file, "utf8") };
      const note = (text: string): void => void notes.push(text);
      await importCheckpoint({ stage1: published, base: tinyModel, output: to, config, note });
      expect(notes).toEqual([expect.stringContaining(`new moments after step ${begun}: there is no optimizer.bin`)]);
      const fresh = await goOn(device, to);
      expect(fresh.losses.get(begun + 1)).toBe(direct.losses.get(begun + 1));
      expect(fresh.losses.get(steps)).not.toBe(direct.losses.get(steps));
    }
    const answers = await answersOf(device, output);
    expect(answers.mode).toBe(result.stages.at(-1)?.mode);
    expect(answers).toEqual(await answersOf(device, run));
  });
});

/** A value of a file as one to write, with its tensors still in the file. */
function writable(value: PickleValue, stream: (tensor: TorchTensor) => AsyncGenerator<Uint8Array>): WritableValue {
  const inner = (item: PickleValue): WritableValue => writable(item, stream);
  if (value instanceof TorchTensor) return { dtype: value.dtype, shape: value.shape, data: () => stream(value) };
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [inner(key), inner(item)]));
  if (value instanceof Tuple) return new Tuple(value.items);
  return Array.isArray(value) ? value.map(inner) : (value as WritableValue);
}

type Dict = Map<WritableValue, WritableValue>;
const at = (value: WritableValue | undefined, ...keys: WritableValue[]): WritableValue | undefined =>
  keys.reduce<WritableValue | undefined>(
    (inner, key) => (Array.isArray(inner) ? (inner[key as number] as WritableValue) : (inner as Dict).get(key)),
    value,
  );

/** Writes a torch file again, changed. */
async function rewritten(from: string, to: string, edit: (value: Dict) => void | Promise<void>): Promise<void> {
  await using source = await openFile(from);
  const { value, stream } = await openTorchFile(source, { name: from });
  const changed = writable(value, stream) as Dict;
  await edit(changed);
  const beside = `${to}.new`;
  await writeFileAtomically(beside, writeTorchFile(changed));
  renameSync(beside, to);
}

/** Elements of a flat F32 tensor. */
async function part({ data }: TensorToWrite, begin: number, end?: number): Promise<TensorToWrite> {
  const parts: Uint8Array[] = [];
  for await (const chunk of typeof data === "function" ? data() : [data]) parts.push(chunk);
  const bytes = new Uint8Array(Buffer.concat(parts)).subarray(4 * begin, end === undefined ? undefined : 4 * end);
  return { dtype: "F32", shape: [bytes.length / 4], data: bytes };
}

const partition = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt";

test(
  "partitions of several ranks are put together; what does not fit is refused, and what is missing said",
  {
    timeout: 120_000,
  },
  async ({ device }) => {
    const { run, published, output, notes: quiet } = await travelled(device, { stage: "2" });
    expect(quiet).toEqual([]);
    const folder = join(published, `global_step${begun}`);
    const own = join(folder, partition);
    const checkpoint = join("checkpoints", `step-0000000${begun}`);
    const files = ["parameters.safetensors", "optimizer.safetensors", "training.json"];
    const want = files.map((file) => readFileSync(join(output, checkpoint, file)));
    const again = async (more: Partial<ImportOptions> = {}) => {
      const [to, notes] = [place(), [] as string[]];
      const name = join(run, "config.yaml");
      const config = { name, text: readFileSync(name, "utf8") };
      const note = (text: string): void => void notes.push(text);
      await importCheckpoint({
        stage1: published,
        stage2: published,
        base: tinyModel,
        output: to,
        config,
        note,
        ...more,
      });
      return { to, notes };
    };

    // Three ranks, cut where no parameter begins; the last is padded.
    const whole = readFileSync(own);
    const cuts = [0, 7, 101, undefined] as const;
    for (const [rank, begin] of cuts.slice(0, 3).entries()) {
      const path = join(folder, partition.replace("rank_0", `rank_${rank}`));
      writeFileSync(`${own}.whole`, whole);
      await rewritten(`${own}.whole`, path, async (value) => {
        const state = at(value, "optimizer_state_dict") as Dict;
        const cut = (tensor: WritableValue | undefined) =>
          part(tensor as TensorToWrite, begin as number, cuts[rank + 1]);
        const slot = at(state, "base_optimizer_state", "state", 0) as Dict;
        for (const moment of ["exp_avg", "exp_avg_sq"]) slot.set(moment, await cut(slot.get(moment)));
        const master = await cut(at(state, "single_partition_of_fp32_groups", 0));
        state.set("single_partition_of_fp32_groups", [master]).set("partition_count", [3]);
      });
    }
    const joined = await again();
    expect(files.map((file) => readFileSync(join(joined.to, checkpoint, file)))).toEqual(want);

    const third = join(folder, partition.replace("rank_0", "rank_2"));
    renameSync(third, `${third}.away`);
    await expect(again()).rejects.toThrow("is one of 3 partitions of the optimizer, and 2 are there");
    renameSync(`${third}.away`, third);
    rmSync(join(folder, partition.replace("rank_0", "rank_1")));
    await expect(again()).rejects.toThrow("there is none of rank 1");
    rmSync(third);

    const spoil = (edit: (state: Dict) => void | Promise<void>): Promise<void> =>
      rewritten(`${own}.whole`, own, (value) => edit(at(value, "optimizer_state_dict") as Dict));
    await spoil(async (state) => {
      const flat = at(state, "single_partition_of_fp32_groups", 0) as TensorToWrite;
      const turned = await part(flat, 0);
      (turned.data as Uint8Array).reverse();
      state.set("single_partition_of_fp32_groups", [turned]);
    });
    const refused = again();
    await expect(refused).rejects.toThrow(/the optimizer's copy of .* is not the weight: .*--fresh_moments$/);
    await expect(refused).rejects.toBeInstanceOf(WeightError);
    expect((await again({ freshMoments: true })).notes.join()).toContain(
      `new moments after step ${begun}, as asked for`,
    );
    await spoil(async (state) => {
      const slot = at(state, "base_optimizer_state", "state", 0) as Dict;
      slot.set("exp_avg", await part(slot.get("exp_avg") as TensorToWrite, 1));
    });
    await expect(again()).rejects.toThrow(/exp_avg of group 0 has \d+ numbers in all partitions, its parameters \d+$/);
    await spoil((state) => void state.set("fp32_flat_groups", []));
    expect((await again()).notes.join()).toContain("is of ZeRO stage 3");
    await spoil((state) => void state.set("param_alignment_paddings", [[0, 2]]));
    expect((await again()).notes.join()).toContain("gaps between parameters");
    await spoil((state) => void (at(state, "base_optimizer_state", "state", 0) as Dict).set("step", 9));
    expect((await again()).notes.join()).toContain(`AdamW has done 9 steps, the checkpoint ${begun}`);

    rmSync(own);
    const fresh = await again();
    expect(fresh.notes).toEqual([expect.stringContaining(`new moments after step ${begun}: there is no zero_pp_rank`)]);
    const bare = await again({ weightsOnly: true });
    expect(readdirSync(join(bare.to, checkpoint))).not.toContain("parameters.safetensors");
    expect(readdirSync(bare.to).toSorted()).toEqual(["checkpoints", "run.json", "stage1"]);
  },
);

test("a published configuration says how training goes on; what the checkpoint says wins, and is said", async ({
  device,
}) => {
  const { published } = await travelled(device, { stage: "1" });
  const text = `data:
  dataset_name: gsm8kaug
  processed_dir: nowhere
rendering:
  font_size: 16
llm_model:
  model_path: ckpt/base
  use_custom_llm: true
training:
  batch_size: 3
  learning_rate: 2e-5
  projection_hidden_dim: 2048
  stage2_mode: false
misc:
  seed: 42
`;
  const notes: string[] = [];
  const output = place();
  const given = { stage1: published, base: tinyModel, output, note: (line: string): void => void notes.push(line) };
  const { training } = await importCheckpoint({ ...given, config: { name: "stage1.yaml", text } });
  expect(training).toMatchObject({ data: false });
  expect(notes.join("\n")).toContain("head.hidden is 16 as in the checkpoint, not 2048 as in stage1.yaml");
  expect(notes.join("\n")).toContain("the dataset nowhere/gsm8kaug_train_processed.jsonl is not there");
  expect(parse(readFileSync(join(output, "config.yaml"), "utf8"))).toMatchObject({
    model: tinyModel,
    stage: "1",
    seed: 42,
    head: { hidden: 16 },
    optimizer: { lr: 2e-5 },
    training: { batch_size: 3 },
    rendering: { font_size: 16, encoding: "reference" },
    stage2: { answer_style: "reference" },
  });
  const bundle = JSON.parse(readFileSync(join(output, "checkpoints/step-00000002/bundle.json"), "utf8")) as object;
  expect(bundle).toMatchObject({
    mode: "stage1",
    strips: { fontSize: 16, newlines: "keep" },
    answerStyle: "reference",
  });

  const rows = join(place(), "rows.jsonl");
  mkdirSync(join(rows, ".."));
  writeFileSync(rows, '{"question": "1 + 1?", "cot": "1 + 1 = 2", "answer": "2"}\n'.repeat(6));
  const known = await importCheckpoint({
    ...given,
    output: place(),
    config: { name: "stage1.yaml", text },
    dataset: rows,
  });
  expect(known.training).toMatchObject({ data: true });
  const stage2 = { name: "stage2.yaml", text: text.replace("stage2_mode: false", "stage2_mode: true") };
  await expect(importCheckpoint({ ...given, output: place(), config: stage2 })).rejects.toThrow(UsageError);
  const state = await openSafetensors(
    fromBytes(readFileSync(join(output, "checkpoints/step-00000002/optimizer.safetensors"))),
    { name: "optimizer" },
  );
  expect(state.tensors.get("exp_avg.head.0.weight")?.dtype).toBe("F32");
});
