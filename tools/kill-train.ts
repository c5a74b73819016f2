/**
 * Kills a training run at random moments, resumes it until it is done, and compares what is left with a run that nobody
 * disturbed. Prints one line a kill; exits with 1 when a checkpoint was torn or a final file differs.
 *
 *     node --conditions=@rot/source --import tsx tools/kill-train.ts [kills = 100] [model folder]
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { listCheckpoints, verifyCheckpoint } from "../packages/rot/src/train/checkpoint-folder.ts";

const main = resolve(import.meta.dirname, "../packages/cli/src/main.ts");
const kills = Number(process.argv[2] ?? 100);
const model = process.argv[3] ?? resolve(import.meta.dirname, "../packages/models/test/golden/qwen3vl_tiny");
const stages = ["stage1", "stage2"];
const steps = 6;
const settings = [
  "head.hidden=16",
  "data.synthetic_samples=40",
  "data.validation_share=0.1",
  "rendering.font_size=8",
  "rendering.thought_markers=false",
  "checkpoint.every=1",
  "validation.every=2",
  "validation.samples=2",
].flatMap((setting) => ["--set", setting]);
const begin = [
  "--model",
  model,
  "--dataset",
  "synthetic",
  "--batch_size",
  "2",
  "--max_steps",
  String(steps),
  ...settings,
];

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Runs the trainer; kills it after some milliseconds if it still lives. */
async function train(
  args: readonly string[],
  after = Infinity,
): Promise<{ killed: boolean; code: number | null; said: string }> {
  const child = spawn(process.execPath, ["--conditions=@rot/source", "--import", "tsx", main, "train", ...args]);
  let said = "";
  child.stderr.on("data", (text: Buffer) => (said += text.toString()));
  const timer = Number.isFinite(after) ? setTimeout(() => child.kill("SIGKILL"), after) : undefined;
  const [code, signal] = await new Promise<[number | null, string | null]>((done) =>
    child.on("close", (...ended) => done(ended)),
  );
  clearTimeout(timer);
  return { killed: signal === "SIGKILL", code, said };
}

/** SHA-256 of what a finished run is. */
async function fingerprint(run: string): Promise<Record<string, string>> {
  const files = stages.flatMap((stage) => [
    `${stage}/metrics.jsonl`,
    ...["parameters.safetensors", "optimizer.safetensors", "training.json"].map(
      (file) => `${stage}/checkpoints/step-${String(steps).padStart(8, "0")}/${file}`,
    ),
  ]);
  const hash = async (file: string): Promise<string> =>
    createHash("sha256")
      .update(await readFile(join(run, file)))
      .digest("hex");
  return Object.fromEntries(await Promise.all(files.map(async (file) => [file, await hash(file)])));
}

const folder = await mkdtemp(join(tmpdir(), "rot-kills-"));
const whole = join(folder, "whole");
const started = performance.now();
const undisturbed = await train([...begin, "--output", whole]);
if (undisturbed.code !== 0) throw new Error(undisturbed.said);
const length = performance.now() - started;
const want = await fingerprint(whole);
say(`undisturbed: ${(length / 1000).toFixed(1)} s`);

let [killed, torn, wrong, runs] = [0, 0, 0, 0];
while (killed < kills) {
  const run = join(folder, String(++runs));
  for (;;) {
    const args = existsSync(join(run, "run.json")) ? ["--output", run, "--resume"] : [...begin, "--output", run];
    const ended = await train(args, killed < kills ? Math.random() * length : Infinity);
    for (const parent of stages.map((stage) => join(run, stage, "checkpoints"))) {
      for (const step of await listCheckpoints(parent)) {
        await verifyCheckpoint(join(parent, `step-${String(step).padStart(8, "0")}`)).catch((error: Error) => {
          torn++;
          say(`torn: ${error.message}`);
        });
      }
    }
    if (ended.killed) {
      const at = await Promise.all(
        stages.map(async (stage) => (await listCheckpoints(join(run, stage, "checkpoints"))).at(-1) ?? 0),
      );
      say(`kill ${++killed} of ${kills}: run ${runs}, after steps ${at.join(" and ")}`);
    } else if (ended.code === 0) break;
    else throw new Error(`exit code ${ended.code}: ${ended.said}`);
  }
  const got = await fingerprint(run);
  for (const [file, hash] of Object.entries(want)) {
    if (got[file] === hash) continue;
    wrong++;
    say(`run ${runs}: ${file} differs`);
  }
}
say(`${killed} kills, ${runs} runs: ${torn} torn checkpoints, ${wrong} files that differ`);
await rm(folder, { recursive: true });
process.exitCode = torn + wrong > 0 ? 1 : 0;
