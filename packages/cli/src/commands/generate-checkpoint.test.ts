/** `rot-cli generate` with checkpoints as users run it: of the golden model, and of the embedded one. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice } from "@rot/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTinyHead } from "../../../rot/src/tiny/arms.ts";
import { tinyBundles } from "../../../rot/src/tiny/node/bundles.ts";
import { openShippedBase } from "../../../rot/src/tiny/node/shipped.ts";
import { writeCheckpoint } from "../../../rot/src/train/checkpoint-folder.ts";
import { openGolden } from "../../../rot/test/tools/golden-bundle.ts";
import { runPiped } from "../../test/tools/run-cli.ts";
import { type Answer, printable } from "../generate/answer.ts";

const { base, index, writeGoldenBundle } = openGolden("own");
const folder = mkdtempSync(join(tmpdir(), "rot-generate-checkpoint-"));
afterAll(() => rmSync(folder, { recursive: true }));
let checkpoint = "";
const tinyRun = join(folder, "tiny");

beforeAll(async () => {
  const device = await openDevice();
  checkpoint = await writeGoldenBundle(device, join(folder, "run", "checkpoints"), { head: "setup.safetensors" });
  const tiny = await openShippedBase(device);
  const bundles = await tinyBundles(tiny, null);
  await writeCheckpoint(join(tinyRun, "stage1", "checkpoints"), 1, bundles(tiny, createTinyHead(tiny, 0))());
  device.destroy();
});

const run = (args: readonly string[], questions = "") => runPiped(questions, "generate", ...args);

const answers = (stdout: string): Answer[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);

const question = index.samples[0]?.question as string;
const short = ["--max_new_tokens", "4"];

test("a checkpoint thinks first: the answer on stdout, with --json how many latents and for how long", async () => {
  const args = ["--checkpoint", join(folder, "run"), "--prompt", question, ...short];
  const plain = await run(args);
  expect(plain.status, plain.stderr).toBe(0);
  expect(plain.stderr).toMatch(/4 tokens, the first after/);
  const [answer] = answers((await run([...args, "--json"])).stdout);
  expect(plain.stdout).toBe(`${printable(answer?.text ?? "")}\n`);
  // The checkpoint's own budget.
  expect(answer).toMatchObject({ prompt: question, latents: 8, finish: "length" });
  expect(answer?.secondsThinking).toBeGreaterThan(0);
  expect(answer).not.toHaveProperty("thought");
  const golden = index.generate_before_training.find(({ sample, budget }) => sample === 0 && budget === 3);
  const fixed = answers((await run([...args, "--json", "--num_vision_tokens", "3"])).stdout);
  expect(fixed[0]?.latents).toBe(3);
  if (golden) expect(golden.tokens.slice(0, 4)).toEqual(fixed[0]?.ids);
  const near = await run([...args, "--json", "--dynamic", "--stop_threshold", "1e3"]);
  expect(answers(near.stdout)[0]?.latents).toBe(0);
  const idle = await run([...args, "--stop_threshold", "0.02", "--model_type", "v2", "--mode", "generate"]);
  expect(idle.stderr).toContain("--stop_threshold has an effect with --dynamic only");
});

test("a batch is answered alike at any size, drawn or not, with latents in a page", async () => {
  const file = join(folder, "questions.txt");
  writeFileSync(file, `${index.samples.map((sample) => sample.question.replaceAll("\n", " ")).join("\n")}\n`);
  const page = join(folder, "latents.html");
  const drawn = ["--batch", file, ...short, "--temperature", "1", "--seed", "3", "--num_vision_tokens", "2", "--json"];
  const args = ["--checkpoint", checkpoint, ...drawn];
  const all = await run([...args, "--show-latents", page]);
  const ids = answers(all.stdout).map((answer) => answer.ids);
  expect(ids).toHaveLength(index.samples.length);
  expect(answers(all.stdout)[1]?.thought).toHaveLength(2);
  const alone = await run([...args, "--batch_size", "1"]);
  expect(answers(alone.stdout).map((answer) => answer.ids)).toEqual(ids);
  const html = readFileSync(page, "utf8");
  expect(html.match(/<figure>/g)).toHaveLength(2 * index.samples.length);
  expect(all.stderr).toMatch(/\[1\]\n {2}2 latents in [\d.e-]+ s · norm [\d.]+ to [\d.]+ [▁-█]{2} · -?[\d.]+ like/);
  expect(all.stderr).not.toContain("reads");
});

test("the embedded model: its run answers in its own vocabulary, and its base reads the latents", async () => {
  const picture = join(folder, "latents.png");
  const asked = ["--checkpoint", tinyRun, "--prompt", "8-5+3+1+2*7", "--json", "--show-latents"];
  const { status, stdout, stderr } = await run([...asked, picture]);
  expect(status, stderr).toBe(0);
  const [answer] = answers(stdout);
  expect(answer).toMatchObject({ latents: 5, promptTokens: 13 });
  expect(answer?.thought?.[4]).toMatchObject({ reads: expect.any(String) as string });
  expect(readFileSync(picture).subarray(1, 4).toString()).toBe("PNG");
  const page = join(folder, "drawn.html");
  const compared = await run([...asked, page, "--chain", "3, 6, 7, 9, 3"]);
  expect(compared.stderr).toMatch(/\n {2}drawn {4}[1-5]:-?[01]\.\d\d│/);
  expect(readFileSync(page, "utf8").match(/alt="cell [1-5] of the chain"/g)).toHaveLength(5);
  const base = await run(["--model", "tiny", "--prompt", "8-5+3+1+2*7"]);
  expect(base.stdout).toBe("3, 6, 7, 9, 3<ans>3\n");
  const unknown = await run(["--model", "tiny", "--prompt", "How many?"]);
  expect(unknown).toMatchObject({ status: 3, stdout: "" });
  expect(unknown.stderr).toContain('the model does not know "H" in "How many?"');
});

test("interactive: from a pipe every line is a question, and what cannot be answered says so in its place", async () => {
  const args = ["--checkpoint", tinyRun, "--interactive", ...short];
  const lines = ["1+1+1+1+1+1", "", "/latents 2", "/seed 4", "How many?", "/frobnicate", "1+1+1+1+1+1", "/exit", "2"];
  const { status, stdout, stderr } = await run([...args, "--show-latents"], lines.join("\n"));
  const said = stdout.split("\n");
  expect(said).toHaveLength(5);
  expect(said[1]).toMatch(/^ERROR: the model does not know "H"/);
  expect(said[2]).toMatch(/^ERROR: there is no \/frobnicate; \/help shows/);
  expect(stderr).toMatch(/ {2}5 latents in .*\n {2}reads .*\n {2}instead .*\n {2}nearest .*\n {2}2 latents/);
  expect(stderr).toContain("2 lines could not be answered");
  expect(status).toBe(3);
  expect(stdout + stderr).not.toContain("\u001b");
  const json = await run([...args, "--json"], "3+1+1+1+1+1\n");
  expect(json.status, json.stderr).toBe(0);
  expect(answers(json.stdout)).toMatchObject([{ prompt: "3+1+1+1+1+1", latents: 5 }]);
  const pages = join(folder, "talk.html");
  await run([...args, "--show-latents", pages], "3+1+1+1+1+1\n4+1+1+1+1+1\n");
  expect(readFileSync(pages, "utf8").match(/class="card"/g)).toHaveLength(2);
});

test("the published script's flags answer a dataset into a file, without scores", async () => {
  const file = join(folder, "answers.jsonl");
  const flags =
    `--dataset tiny --split test --max_samples 3 --max_new_tokens 4 --temperature 0.0 --num_vision_tokens 5 ` +
    `--stop_threshold 0.02 --model_type v2 --mode generate --output_file ${file} --output_format jsonl`;
  const { status, stderr } = await run(["--checkpoint", tinyRun, ...flags.split(" ")]);
  expect(status, stderr).toBe(0);
  const rows = readFileSync(file, "utf8").trim().split("\n");
  expect(rows).toHaveLength(5);
  expect(JSON.parse(rows[1] as string)).toMatchObject({ id: 0, latents: 5 });
  expect(JSON.parse(rows[1] as string)).not.toHaveProperty("is_correct");
});

test.for<[args: () => string[], wanted: number, message: RegExp]>([
  [() => ["--prompt", "x"], 2, /give --checkpoint PATH, a run of rot-cli train, or --model DIR/],
  [() => ["--checkpoint", checkpoint], 2, /give --prompt TEXT or --batch FILE/],
  [
    () => ["--checkpoint", checkpoint, "--prompt", "x", "--image", "a.png"],
    2,
    /--image: a checkpoint.* is asked in text/,
  ],
  [
    () => ["--checkpoint", checkpoint, "--prompt", "x", "--show-latents", "a.gif"],
    2,
    /a page, FILE\.html, or a picture/,
  ],
  [() => ["--checkpoint", join(folder, "none"), "--prompt", "x"], 3, /there is no .*none/],
  [() => ["--model", base, "--prompt", "x", "--dynamic"], 2, /--dynamic: .* is a plain model/],
  [() => ["--model", "tiny", "--prompt", "1", "--num_vision_tokens", "3"], 2, /answers in text: it has no latents/],
  [() => ["--model", "tiny", "--prompt", "1", "--show-latents"], 2, /--show-latents: .* it has no latents to show/],
  [() => ["--checkpoint", checkpoint, "--prompt", "x", "--chain", "1"], 2, /--chain needs --prompt and --show-latents/],
  [() => ["--checkpoint", checkpoint, "--interactive", "--prompt", "x"], 2, /leave --prompt and --batch out/],
  [() => ["--checkpoint", checkpoint, "--dataset", "tiny", "--stop", "x"], 2, /--stop: not with a dataset/],
])("mistake %# is said, with its code", async ([args, wanted, message]) => {
  const { status, stderr, stdout } = await run(args());
  expect(stderr).toMatch(message);
  expect({ status, stdout }).toEqual({ status: wanted, stdout: "" });
});
