import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll, beforeAll, describe } from "vitest";
import { fingerprint, temporary, tinyRun } from "../../../test/tools/tiny-run.ts";
import { CheckpointError, listCheckpoints } from "../checkpoint-folder.ts";
import { DiskError } from "../disk-error.ts";

let folder: Awaited<ReturnType<typeof temporary>>;
beforeAll(async () => {
  folder = await temporary();
});
afterAll(() => folder[Symbol.asyncDispose]());
const at = (...names: string[]): string => join(folder.path, ...names);

/** `ROT_TEST_ALL=1` stops after every step of 20. */
const everything = Boolean(process.env["ROT_TEST_ALL"]);
const steps = everything ? 20 : 4;
const stops = everything ? Array.from({ length: 19 }, (_, i) => i + 1) : [3];

describe("a run that is stopped after a step and goes on ends with the same bits", () => {
  test.for([
    ["stage 1", { stage: "1" }],
    ["stage 1 with learnt weights of its losses", { stage: "1", "loss.uncertainty": "true" }],
    ["stage 1, markers too", { stage: "1", "markers.train": "true", "markers.lr": "0.1", "markers.mode": "reference" }],
    ["v1", { stage: "all", model_type: "v1" }],
    ["stage 2, LoRA with dropout", { stage: "2" }],
    ["stage 2, full", { stage: "2", "stage2.mode": "full" }],
    ["supervised text", { stage: "sft", "stage2.mode": "lm_head" }],
  ] as const)("%s", { timeout: everything ? 3_600_000 : 60_000 }, async ([name, given], { device }) => {
    const first = at("stage1-for-2");
    if (given.stage === "2" && !existsSync(first))
      await tinyRun(device, first, { stage: "1", "training.max_steps": "1" });
    const settings = {
      ...given,
      "training.max_steps": String(steps),
      ...(given.stage === "2" && { stage1_checkpoint: first }),
    };
    const whole = at(name);
    const { reports } = await tinyRun(device, whole, settings);
    expect(reports).toHaveLength(steps);
    expect(reports.every(({ gradientNorm }) => gradientNorm > 0)).toBe(true);
    const want = await fingerprint(whole, steps);
    for (const k of stops) {
      const run = at(`${name}, ${k}`);
      const stopped = await tinyRun(device, run, settings, { stopAfter: k });
      expect(stopped.outcomes[0]).toMatchObject({ end: "stopped", step: k, done: k });
      const { outcomes, notes } = await tinyRun(device, run, settings, { resume: true });
      expect(outcomes[0]).toMatchObject({ end: "finished", step: steps, done: steps - k });
      expect(notes).toEqual([]);
      expect(await fingerprint(run, steps), `stopped after ${k}`).toEqual(want);
      await rm(run, { recursive: true });
    }
  });
});

test("the same seed gives the same bits, and another one others", async ({ device }) => {
  const settings = { stage: "1", "training.max_steps": "2" };
  const prints: string[] = [];
  for (const seed of everything ? [1, 1, 1, 1, 1, 2] : [1, 1, 2]) {
    const run = at(`seed ${prints.length}`);
    await tinyRun(device, run, { ...settings, seed: String(seed) });
    prints.push(JSON.stringify(await fingerprint(run, 2)));
  }
  expect(new Set(prints.slice(0, -1)).size).toBe(1);
  expect(prints.at(-1)).not.toBe(prints[0]);
});

describe("what is in a run folder decides", () => {
  const settings = { stage: "1", "training.max_steps": "3", "checkpoint.every": "1", "checkpoint.keep_last": "2" };
  const run = (): string => at("kept");
  let copies = 0;
  /** A copy of a run of three steps. */
  const copy = async (): Promise<string> => {
    const to = at(`kept copy ${copies++}`);
    await cp(run(), to, { recursive: true });
    return to;
  };

  test("a run folder explains itself", async ({ device }) => {
    const { outcomes } = await tinyRun(device, run(), settings, { manifest: { version: "1.2.3" } });
    expect(outcomes[0]).toMatchObject({
      stage: "stage1",
      end: "finished",
      checkpoint: join(run(), "checkpoints/step-00000003"),
    });
    expect((await readdir(run())).toSorted()).toEqual([
      "checkpoints",
      "config.yaml",
      "metrics.jsonl",
      "run.json",
      "timing.jsonl",
    ]);
    expect(JSON.parse(await readFile(join(run(), "run.json"), "utf8"))).toMatchObject({
      format: 1,
      version: "1.2.3",
      adapter: { kind: device.kind },
      seed: 0,
      data: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(await listCheckpoints(join(run(), "checkpoints"))).toEqual([2, 3]);
  });

  test("a second run does not begin in it", async ({ device }) => {
    await expect(tinyRun(device, run(), settings)).rejects.toThrow(
      /kept holds a run already: go on with it by --resume/,
    );
  });

  test("a finished run says so, and does nothing", async ({ device }) => {
    const folder = await copy();
    const before = await fingerprint(folder, 3);
    const { outcomes, notes, reports } = await tinyRun(device, folder, settings, { resume: true });
    expect(notes).toEqual([expect.stringMatching(/stage1 is already finished: step 3 of 3, in .*higher --max_steps/)]);
    expect(outcomes[0]).toMatchObject({ end: "finished", step: 3, done: 0, losses: {} });
    expect(reports).toEqual([]);
    expect(await fingerprint(folder, 3)).toEqual(before);
  });

  test("other settings are named, and more steps go on", async ({ device }) => {
    const folder = await copy();
    const other = { ...settings, "training.max_steps": "4", "optimizer.weight_decay": "0.5" };
    const { outcomes, notes } = await tinyRun(device, folder, other, { resume: true });
    expect(notes).toEqual([
      "going on with other settings: optimizer.weight_decay 0.5 (was 0.01), training.max_steps 4 (was 3)",
    ]);
    expect(outcomes[0]).toMatchObject({ step: 4, done: 1 });
    const next = await tinyRun(device, folder, other, { resume: true });
    expect(next.notes, "they are the run's own now").toEqual([expect.stringMatching(/already finished: step 4 of 4/)]);
    await expect(tinyRun(device, folder, { ...other, "head.hidden": "8" }, { resume: true })).rejects.toThrow(/head/);
    expect(await readFile(join(folder, "config.yaml"), "utf8")).toMatch(/hidden: 16\n[^]*max_steps: 4\n/);
  });

  test("a signal while stage 2 is made ready leaves the outcome of stage 1", async ({ device }) => {
    const stop = new AbortController();
    const { outcomes } = await tinyRun(
      device,
      at("between"),
      { ...settings, stage: "all", "training.max_steps": "1" },
      {
        signal: stop.signal,
        events: {
          note: () => {},
          stage: () => {},
          step: () => {},
          validation: () => {},
          checkpoint: () => stop.abort(),
        },
      },
    );
    expect(outcomes.map(({ stage, step }) => [stage, step])).toEqual([["stage1", 1]]);
  });

  test("stage 2 says what it begins with, and that its strips are others", async ({ device }) => {
    const stage2 = { ...settings, stage: "2", stage1_checkpoint: run(), "training.max_steps": "1" };
    const begins = `stage 2 begins with ${join(run(), "checkpoints/step-00000003")}`;
    const none = expect.stringMatching(/^none of 14 rows validates \(data\.validation_share 0\.2\)/);
    const same = await tinyRun(device, at("same strips"), stage2);
    expect(same.notes).toEqual([begins, none]);
    const { notes } = await tinyRun(device, at("other strips"), { ...stage2, "rendering.font_size": "9" });
    expect(notes).toEqual([begins, "strips are drawn otherwise than in stage 1: fontSize 9 (was 8)", none]);
  });

  test("going back to an earlier checkpoint puts the later ones aside and ends the same", async ({ device }) => {
    const folder = await copy();
    const want = await fingerprint(folder, 3);
    const parent = join(folder, "checkpoints");
    const { outcomes, notes } = await tinyRun(device, folder, settings, { resume: join(parent, "step-00000002") });
    expect(notes).toEqual([`later checkpoints are put aside: ${join(parent, "replaced-step-00000003")}`]);
    expect(outcomes[0]?.done).toBe(1);
    expect(await fingerprint(folder, 3)).toEqual(want);
    expect((await readdir(parent)).toSorted()).toEqual(["replaced-step-00000003", "step-00000002", "step-00000003"]);
  });

  test("a damaged checkpoint is passed over, with a warning; when all are, nothing is done", async ({ device }) => {
    const folder = await copy();
    const want = await fingerprint(folder, 3);
    const damage = (step: number): Promise<void> =>
      writeFile(join(folder, "checkpoints", `step-0000000${step}`, "parameters.safetensors"), "x");
    await damage(3);
    const { notes } = await tinyRun(device, folder, settings, { resume: true });
    expect(notes[0]).toMatch(/step-00000003\/parameters\.safetensors has 1 bytes.*the checkpoint before it is used/);
    expect(await fingerprint(folder, 3)).toEqual(want);
    await damage(2);
    await damage(3);
    const error = await tinyRun(device, folder, settings, { resume: true }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(/no checkpoint is whole/);
  });

  test("it is not gone on with on other data, nor from a checkpoint of another run", async ({ device }) => {
    await expect(
      tinyRun(device, run(), { ...settings, "data.synthetic_samples": "15" }, { resume: true }),
    ).rejects.toThrow(/was trained on other data \([0-9a-f]{12}…, now [0-9a-f]{12}…\)/);
    const other = join(await copy(), "checkpoints", "step-00000003");
    await expect(tinyRun(device, run(), settings, { resume: other })).rejects.toThrow(/is no checkpoint of the run in/);
    await expect(tinyRun(device, run(), settings, { resume: at("nowhere") })).rejects.toThrow(/--resume: there is no/);
    await expect(tinyRun(device, at("nothing"), settings, { resume: true })).rejects.toThrow(
      /nothing holds no run to go on with/,
    );
    expect(existsSync(at("nothing"))).toBe(false);
  });

  test("two trainers do not share it", async ({ device }) => {
    const folder = at("shared");
    const both = await Promise.allSettled([1, 2].map(() => tinyRun(device, folder, settings)));
    expect(both.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    const { reason } = both.find(({ status }) => status === "rejected") as PromiseRejectedResult;
    expect(reason).toBeInstanceOf(UsageError);
    expect((reason as Error).message).toMatch(new RegExp(`is being trained in by process ${process.pid} `));
    expect(existsSync(join(folder, "run.lock"))).toBe(false);
  });
});

test("an output that cannot be written is noticed before anything is opened, and nothing stays of a run that never began", async ({
  device,
}) => {
  await writeFile(at("a file"), "");
  let opened = 0;
  const openDevice = () => Promise.resolve((opened++, device));
  await expect(tinyRun(device, at("a file", "run"), { stage: "1" }, { openDevice })).rejects.toThrow(DiskError);
  await expect(tinyRun(device, at("no", "data"), { "data.dataset": at("no.jsonl") }, { openDevice })).rejects.toThrow(
    /no\.jsonl/,
  );
  expect(opened).toBe(0);
  await expect(tinyRun(device, at("no", "model"), { model: at("no model") })).rejects.toThrow(/no model/);
  expect(existsSync(at("no"))).toBe(false);
});

test("the schedule goes over the steps that there are: batches and epochs counted, parts of them too", async ({
  device,
}) => {
  const given = { stage: "1", "training.num_epochs": "1.5", "data.validation_share": "0", "optimizer.lr": "0.1" };
  for (const [schedule, after] of [
    ["linear", (step: number) => (6 - step) / 4],
    ["constant", () => 1],
  ] as const) {
    // 14 samples, 2 · 2 a step: 5.25 steps, so 6, of which 2 warm up.
    const { reports } = await tinyRun(device, at(schedule), { ...given, "optimizer.schedule": schedule });
    const want = [0, 0.5, ...[2, 3, 4, 5].map(after)];
    expect(reports).toHaveLength(6);
    for (const [i, { learningRate }] of reports.entries())
      expect(learningRate).toBeCloseTo(0.1 * (want[i] as number), 9);
    expect(reports.at(-1)?.totals).toMatchObject({ samples: 24 });
  }
});

test("both stages run in one folder, and stopping in the first does not begin the second", async ({ device }) => {
  const output = at("both");
  const settings = { stage: "all", "training.max_steps": "2" };
  const stopped = await tinyRun(device, output, settings, { stopAfter: 1 });
  expect(stopped.outcomes.map(({ stage, end }) => `${stage} ${end}`)).toEqual(["stage1 stopped"]);
  const { outcomes } = await tinyRun(device, output, settings, { resume: true });
  expect(outcomes.map(({ stage, end, done }) => [stage, end, done])).toEqual([
    ["stage1", "finished", 1],
    ["stage2", "finished", 2],
  ]);
});

test("a signal before the first step ends the run without a checkpoint", async ({ device }) => {
  const output = at("too early");
  const { outcomes } = await tinyRun(device, output, { stage: "1" }, { signal: AbortSignal.abort() });
  expect(outcomes).toEqual([]);
  expect(existsSync(output)).toBe(false);
});

test("rows that are too long are named, and when all are, the key to raise", async ({ device }) => {
  await mkdir(at("long"));
  const settings = { stage: "1", "training.max_steps": "1" };
  await expect(tinyRun(device, at("long", "all"), { ...settings, "data.max_length": "8" })).rejects.toThrow(
    /no row is left to train on: all \d+ are longer than data\.max_length \(8 tokens\)/,
  );
  const { notes } = await tinyRun(device, at("long", "some"), { ...settings, "data.max_length": "90" });
  expect(notes).toContainEqual(
    expect.stringMatching(/^rows: \d+ left out, longer than data\.max_length \(90 tokens\): \d+/),
  );
});
