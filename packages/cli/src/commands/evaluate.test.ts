/** `rot-cli evaluate` as users run it, on the tiny golden model. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Summary } from "@rot/rot";
import { openDevice } from "@rot/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTinyHead } from "../../../rot/src/tiny/arms.ts";
import { tinyBundles } from "../../../rot/src/tiny/node/bundles.ts";
import { openShippedBase } from "../../../rot/src/tiny/node/shipped.ts";
import { writeCheckpoint } from "../../../rot/src/train/checkpoint-folder.ts";
import { openGolden } from "../../../rot/test/tools/golden-bundle.ts";
import { run as runCli, spawn } from "../../test/tools/run-cli.ts";

const { base, index, writeGoldenBundle } = openGolden("own");

const folder = mkdtempSync(join(tmpdir(), "rot-evaluate-"));
afterAll(() => rmSync(folder, { recursive: true }));
const data = join(folder, "rows.jsonl");
let checkpoint = "";

beforeAll(async () => {
  const device = await openDevice();
  checkpoint = await writeGoldenBundle(device, join(folder, "run", "checkpoints"), {
    head: "setup.safetensors",
    step: 12,
  });
  device.destroy();
  writeFileSync(data, index.samples.map((sample, i) => `${JSON.stringify({ id: `q${i}`, ...sample })}\n`).join(""));
});

const run = (...args: readonly string[]) => runCli("evaluate", ...args);
const short = ["--max_new_tokens", "3"];
const lines = (file: string): Record<string, unknown>[] =>
  readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("a run is evaluated with the published flags: a table on stdout, all rows and the summary in the file", () => {
  const file = join(folder, "published.jsonl");
  const flags =
    `--data_file ${data} --dataset gsm8k --split test --max_samples 3 --temperature 0.0 --num_vision_tokens 5 ` +
    `--stop_threshold 0.01 --model_type v2 --mode evaluate --output_format jsonl --output_file ${file} --ablate zeros,other`;
  const { status, stdout, stderr } = spawn(
    "evaluate",
    "--checkpoint",
    join(folder, "run"),
    ...flags.split(" "),
    ...short,
  );
  expect(stderr).toMatch(/--stop_threshold has an effect with --dynamic only/);
  expect(stderr).toMatch(/evaluate: 3 samples of 3 samples/);
  expect(stdout).toMatch(
    /^3 answers\.\nlatents +Pass@1 +95 % +#L +Pass@1\/#L +s\/sample +tokens\/s +ended +failed\nown +\d+\.\d % .* 5\.0 /,
  );
  expect(stdout).toMatch(/\nzeros .*\nother .*\nChains have \d+\.\d\d text tokens/);
  expect(stdout + stderr).not.toContain("\u001b");
  expect(status).toBe(0);
  const written = lines(file);
  expect(written).toHaveLength(1 + 3 * 3 + 1);
  expect(written[0]).toMatchObject({
    settings: { checkpoint, latents: '{"budget":5}', arms: ["own", "zeros", "other"] },
  });
  expect(written[1]).toMatchObject({
    id: "q0",
    arm: "own",
    question: index.samples[0]?.question,
    ground_truth: index.samples[0]?.answer,
    latents: 5,
  });
  for (const key of ["cot", "prediction", "predicted_answer", "is_correct", "compression_ratio"])
    expect(written[1]).toHaveProperty(key);
  expect(written.at(-1)).toMatchObject({ summary: { total: 3, arms: { own: { total: 3 }, zeros: { total: 3 } } } });
});

test("json has everything too, under the published names, and --resume asks only for what is missing", async () => {
  const file = join(folder, "some.json");
  const args = ["--checkpoint", checkpoint, "--data_file", data, "--output_file", file, ...short, "--json"];
  const first = await run(...args, "--max_samples", "2");
  expect(first.status).toBe(0);
  const summary = JSON.parse(first.stdout) as Summary;
  const parsed = () =>
    JSON.parse(readFileSync(file, "utf8")) as Summary & {
      sample_results: { id: string; latents: number }[];
      total_samples: number;
    };
  expect(parsed()).toMatchObject({ ...summary, total_samples: 2 });
  expect(parsed().sample_results.map(({ latents }) => latents)).toEqual([8, 8]); // the checkpoint's own budget
  const second = await run(...args, "--resume");
  expect(second.stderr).toMatch(/2 of 4 samples are answered already/);
  expect(parsed().sample_results.map(({ id }) => id)).toEqual(["q0", "q1", "q2", "q3"]);
  const other = await run(...args, "--resume", "--num_vision_tokens", "2");
  expect(other.status).toBe(2);
  expect(other.stderr).toMatch(/was made with latents "\{\\"budget\\":8\}", now it is "\{\\"budget\\":2\}"/);
});

test("other ends, seeds and modes", async () => {
  const args = ["--checkpoint", checkpoint, "--data_file", data, "--max_samples", "2", ...short, "--json"];
  const dynamic = await run(...args, "--output_file", join(folder, "a.json"), "--dynamic", "--stop_threshold", "1e3");
  expect(JSON.parse(dynamic.stdout)).toMatchObject({ arms: { own: { latents: 0 } } });
  const seeds = await run(
    ...args,
    "--output_file",
    join(folder, "b.json"),
    "--temperature",
    "1",
    "--top_p",
    "0.9",
    "--seeds",
    "2",
    "--answers",
    "reference",
  );
  expect(JSON.parse(seeds.stdout)).toMatchObject({
    total: 4,
    arms: { own: { total: 2, score: { interval_of: "seeds" } } },
  });
  const generated = await run(...args, "--output_file", join(folder, "c.json"), "--mode", "generate");
  expect(JSON.parse(generated.stdout)).not.toHaveProperty("accuracy");
  const { stdout } = await run("--checkpoint", checkpoint, "--question", "How many?", ...short);
  expect(stdout).toMatch(/^.*\n$/);
  const plain = await run(
    "--model",
    base,
    "--data_file",
    data,
    "--max_samples",
    "1",
    ...short,
    "--output_file",
    join(folder, "d.json"),
  );
  expect(plain).toMatchObject({ status: 0 });
});

test("the default file is named after the data, the run, its stage and the checkpoint", async () => {
  cpSync(checkpoint, join(folder, "a", "stage2", "checkpoints", "step-00000012"), { recursive: true });
  writeFileSync(join(folder, "a", "run.json"), "{}");
  const before = process.cwd();
  process.chdir(folder);
  const args = ["--data_file", data, "--max_samples", "1", ...short];
  try {
    await run("--checkpoint", checkpoint, ...args);
    await run("--checkpoint", "a", ...args);
    const again = await run("--checkpoint", "a", ...args);
    expect(again.stderr).toMatch(/rows_a-stage2-step-00000012_eval\.json is replaced when this is done/);
  } finally {
    process.chdir(before);
  }
  expect(readdirSync(join(folder, "outputs", "results")).toSorted()).toEqual([
    "rows_a-stage2-step-00000012_eval.json",
    "rows_run-step-00000012_eval.json",
  ]);
  expect(readdirSync(join(folder, "a", "evaluations"))).toEqual(["rows-stage2-step-00000012.json"]);
});

test("a run of the embedded model is asked its own problems, and its page gets what came out", async () => {
  const device = await openDevice();
  const tiny = await openShippedBase(device);
  const bundles = await tinyBundles(tiny, null);
  const run_ = join(folder, "tiny");
  await writeCheckpoint(join(run_, "stage1", "checkpoints"), 1, bundles(tiny, createTinyHead(tiny, 0))());
  device.destroy();
  writeFileSync(join(run_, "plan.json"), "{}");
  writeFileSync(join(run_, "stage1", "metrics.jsonl"), '{"step":1,"loss":2}\n{"step":2,"loss":1}\n{"st');
  const args = ["--checkpoint", run_, "--max_samples", "6", "--ablate", "zeros,none", "--output_file"];
  const { status, stdout, stderr } = await run(...args, join(folder, "tiny.json"));
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(/^6 answers\.\n.*\nown .* 5\.0 .*\nzeros .*\nnone /);
  expect(stdout).toMatch(/Chains have 2\.60 text tokens for each latent/);
  const page = readFileSync(join(run_, "report.html"), "utf8");
  expect(page).toContain("Evaluation: tiny_test-stage1-step-00000001");
  expect(page).toContain("<polyline");
  const base = await run("--model", "tiny", "--max_samples", "6", "--output_file", join(folder, "base.json"), "--json");
  expect(JSON.parse(base.stdout)).toMatchObject({ accuracy: 1, arms: { own: { latents: 13 } } });
  const others = ["--data_file", data, "--output_file", join(folder, "tiny-other.json")];
  const refused = await run("--checkpoint", run_, ...others);
  expect(refused.status).toBe(3);
  expect(refused.stderr).toMatch(/no sample could be answered: the model does not know/);
});

const nowhere = join(folder, "nowhere");
test.for<[args: () => string[], status: number, message: RegExp]>([
  [() => [], 2, /give --checkpoint PATH, a run of rot-cli train, or --model DIR/],
  [() => ["--checkpoint", nowhere, "--data_file", data], 3, /there is no .*nowhere/],
  [() => ["--checkpoint", folder, "--data_file", data], 3, /holds several runs; name one of them: .*run/],
  [() => ["--checkpoint", checkpoint, "--data_file", nowhere], 3, /nowhere/],
  [
    () => ["--checkpoint", checkpoint, "--dataset", "gsm9k"],
    3,
    /no dataset gsm9k \(test\): tried gsm9k\/test\.jsonl, data\/processed\/gsm9k_test_processed\.jsonl, /,
  ],
  [
    () => ["--checkpoint", checkpoint, "--model", nowhere, "--data_file", data],
    3,
    /there is none \(no config\.json\): say where it is with --model DIR/,
  ],
  [
    () => ["--checkpoint", checkpoint, "--data_file", data, "--ablate", "zero"],
    2,
    /There is no "zero": there are own, zeros/,
  ],
  [
    () => ["--checkpoint", checkpoint, "--data_file", data, "--seeds", "3"],
    2,
    /at temperature 0 every seed gives the same/,
  ],
  [() => ["--checkpoint", checkpoint, "--data_file", data, "--num_vision_tokens", "-1"], 2, /whole number from 0 up/],
  [
    () => ["--checkpoint", checkpoint, "--data_file", data, "--num_vision_tokens", "5000"],
    3,
    /no sample could be answered: the question has \d+ tokens, which with latents/,
  ],
  [() => ["--model", base, "--data_file", data, "--dynamic"], 2, /answers in text: it has no latents/],
  [() => ["--model", base, "--data_file", data, "--config", nowhere], 2, /--config .*nowhere: ENOENT/],
  [() => ["--checkpoint", checkpoint, "--data_file", data, "--split", "dev"], 2, /Allowed choices are train, test/],
])("mistake %# is said, with its code", async ([args, status, message]) => {
  const file = join(folder, `mistake-${String(status)}.json`);
  const result = await run(...args(), "--output_file", file, "--resume");
  expect(result.stderr).toMatch(message);
  expect(result.status).toBe(status);
  expect(existsSync(`${file}.partial`), "nothing is begun that the next try would have to go on with").toBe(false);
});
