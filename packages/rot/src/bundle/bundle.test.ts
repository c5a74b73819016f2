/** Checkpoints that open without knowing how they were made: every kind of them, and everything that can be wrong with one. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadTokenizer } from "@rot/models/node";
import { assign, type Device, gatherRows, type Tensor, untaped } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterAll } from "vitest";
import { openGolden } from "../../test/tools/golden-bundle.ts";
import type { LatentSource } from "../latent/rollout.ts";
import { createHead } from "../methods/rot/head.ts";
import { writeCheckpoint } from "../train/checkpoint-folder.ts";
import { type BundleConfig, paperStrips, parseBundleConfig } from "./config.ts";
import { freshMarkers, type MarkerMode, markerTokens, placeMarkers, planMarkers, readMarkers } from "./markers.ts";
import { type BundleParts, bundleContents, openBundle, openStudent, type Student } from "./node/index.ts";

const { base, tensorsOf, writeGoldenBundle } = openGolden("own");

const folder = mkdtempSync(join(tmpdir(), "rot-bundle-"));
afterAll(() => rmSync(folder, { recursive: true }));
let made = 0;
const fresh = (): string => join(folder, String(made++));

const EMBEDDING = "model.language_model.embed_tokens.weight";
const head = { width: 64, hidden: 24, activation: "gelu" } as const;
const described: BundleParts["config"] = {
  mode: "stage1",
  head,
  latents: { budget: 3 },
  answerStyle: "explicit",
  chain: false,
  strips: paperStrips,
};

const openFresh = (device: Device, model = base, mode: MarkerMode = "keep"): Promise<Student> =>
  openStudent(model, device, { markers: { mode, seed: 5 } });

/** Saves a student with a head, opens it again, and compares both. */
async function roundTrip(device: Device, student: Student, parts: Partial<BundleParts> = {}) {
  const { width } = student.pretrained.model;
  const config = { ...described, head: { ...head, width } };
  const parameters = createHead(config.head, device, 1);
  const path = await writeCheckpoint(fresh(), 7, bundleContents(student, { config, head: parameters, ...parts }));
  const opened = await openBundle(path, device);
  for (const [key, weight] of student.pretrained.weights) {
    const [got, want] = await Promise.all(
      [opened.pretrained.weights.get(key) as Tensor, weight].map((tensor) => tensor.read()),
    );
    // Element by element it would take seconds.
    expect(Buffer.compare(Buffer.from(got?.buffer as ArrayBuffer), Buffer.from(want?.buffer as ArrayBuffer)), key).toBe(
      0,
    );
  }
  expect(opened.markers).toEqual(student.markers);
  const hidden = student.pretrained.model.embed(Int32Array.of(1, 2));
  const latents = opened.source?.(hidden) as Tensor;
  expect(latents.shape).toEqual([2, width]);
  return { path, opened };
}

test("markers take rows that no token has, and no other row changes", async ({ device }) => {
  const student = await openFresh(device);
  const { markers, tokenizer, pretrained } = student;
  expect(markers).toEqual({ own: false, begin: 992, end: 994, vocabulary: 1024 });
  expect(markerTokens.map((token) => tokenizer.id(token))).toEqual([992, 993, 994]);
  const plain = await openStudent(base, device, { markers: "none" });
  const [before, after] = await Promise.all(
    [plain, student].map(({ pretrained: { weights } }) => (weights.get(EMBEDDING) as Tensor).read()),
  );
  for (let row = 0; row < 1024; row++) {
    const [a, b] = [before, after].map((table) => Array.from(table?.subarray(row * 64, (row + 1) * 64) ?? []));
    if (row < 992 || row > 994) expect(b, `row ${row}`).toEqual(a);
    else expect(Math.hypot(...(b as number[]))).toBeCloseTo(8, 1); // √64, rounded to bf16
  }
  expect(pretrained.config.text.V).toBe(1024);
  const [again, other] = [5, 6].map((seed) => freshMarkers(pretrained.weights, markers as never, seed));
  expect(await again?.get("img_end")?.to("bf16").read()).toEqual(after?.subarray(994 * 64, 995 * 64));
  expect(await other?.get("img_end")?.to("bf16").read()).not.toEqual(after?.subarray(994 * 64, 995 * 64));
  await roundTrip(device, student);
});

test("a table with rows for tokens alone grows, and reference cuts it as the published code does", async ({
  device,
}) => {
  const tokenizer = await loadTokenizer(base);
  expect(planMarkers(tokenizer, 993, "keep")).toEqual({ own: false, begin: 992, end: 994, vocabulary: 995 });
  // Now the tokenizer has them.
  expect(planMarkers(tokenizer, 1024, "reference")).toEqual({ own: true, begin: 992, end: 994, vocabulary: 1024 });
  expect(() => planMarkers(tokenizer, 993, "keep")).toThrow(/<img_end> is token 994, but the model has 993 rows/);
  const half = await loadTokenizer(base);
  half.addTokens(["<img_end>"]);
  expect(() => planMarkers(half, 1024, "keep")).toThrow(/only one of <img_begin> and <img_end>/);

  const student = await openFresh(device, base, "reference");
  expect(student.pretrained.weights.get(EMBEDDING)?.shape).toEqual([995, 64]);
  expect(student.pretrained.model.vocabulary).toBe(995);
  await roundTrip(device, student);
});

test("16-bit tables: a row is written whatever its alignment", async ({ device }) => {
  const student = await openStudent(base, device, { markers: { mode: "keep", seed: 5 }, dtype: "bf16" });
  const { weights } = student.pretrained;
  const plain = await openStudent(base, device, { markers: "none", dtype: "bf16" });
  const rows = Int32Array.of(0, 127, 128, 895, 896, 991, 995, 1023);
  const want = await gatherRows(plain.pretrained.weights.get(EMBEDDING) as Tensor, rows).read();
  expect(await gatherRows(weights.get(EMBEDDING) as Tensor, rows).read()).toEqual(want);
  const markers = { own: false, begin: 127, end: 1023, vocabulary: 1024 };
  const given = new Map(
    ["img_begin", "img_end"].map((name, i) => [name, plain.pretrained.model.embed(Int32Array.of(i + 3)).reshape(-1)]),
  );
  placeMarkers(weights, markers, given);
  const placed = readMarkers(weights, markers);
  for (const [name, row] of given) expect(await placed.get(name)?.read(), name).toEqual(await row.read());
});

test("an output matrix of its own has rows too", async ({ device }) => {
  const untied = fresh();
  cpSync(base, untied, {
    recursive: true,
    filter: (path) => !path.endsWith("/golden") && !path.endsWith("model.safetensors"),
  });
  cpSync(join(base, "sharded_untied"), untied, { recursive: true });
  const student = await openFresh(device, untied);
  const { weights, config } = student.pretrained;
  expect(config.text.tied).toBe(false);
  const rows = readMarkers(weights, student.markers as never);
  expect([...rows.keys()].filter((name) => name.startsWith("lm_head."))).toHaveLength(3);
  const row = await rows.get("lm_head.img_end")?.read();
  const plain = await openStudent(untied, device, { markers: "none" });
  const mean = (plain.pretrained.weights.get("lm_head.weight") as Tensor).mean(0).to("bf16");
  expect(row).toEqual(await mean.read());
  await roundTrip(device, student);
});

test("weights that were trained take the place of the base's, also in a table of another size", async ({ device }) => {
  for (const mode of ["keep", "reference"] as const) {
    const student = await openFresh(device, base, mode);
    const trained = [EMBEDDING, "model.language_model.layers.0.mlp.up_proj.weight"];
    for (const key of trained) {
      const weight = student.pretrained.weights.get(key) as Tensor;
      untaped(() => assign(weight, weight.mul(1.5)));
    }
    await roundTrip(device, student, { config: { ...described, mode: "full" }, trained });
  }
});

test("supervised text and plain models have no latents", async ({ device }) => {
  const student = await openStudent(base, device, { markers: "none" });
  const trained = ["model.language_model.norm.weight"];
  const config = { ...described, mode: "sft", head: null, latents: null, chain: true } as const;
  const path = await writeCheckpoint(fresh(), 1, bundleContents(student, { config, trained }));
  for (const [where, mode] of [
    [path, "sft"],
    [base, "base"],
  ] as const) {
    const opened = await openBundle(where, device);
    expect(opened.config).toMatchObject({ mode, chain: true, markers: null, latents: null });
    expect(opened.source).toBeNull();
  }
});

test("a run folder means its best checkpoint, or the latest, or the one before a damaged one", async ({ device }) => {
  const run = fresh();
  const checkpoints = join(run, "stage1", "checkpoints");
  const student = await openFresh(device);
  const parameters = createHead(head, device, 1);
  const contents = (best: number | null) => ({
    ...bundleContents(student, { config: described, head: parameters }),
    "training.json": [Buffer.from(JSON.stringify({ best: best === null ? null : { step: best, validation: 1 } }))],
  });
  for (const step of [1, 2]) await writeCheckpoint(checkpoints, step, contents(null));
  const open = async (options = {}) => (await openBundle(run, device, options)).path;
  expect(await open()).toBe(join(checkpoints, "step-00000002"));
  await writeCheckpoint(checkpoints, 3, contents(1));
  expect(await open()).toBe(join(checkpoints, "step-00000001"));
  expect(await open({ checkpoint: "latest" })).toBe(join(checkpoints, "step-00000003"));
  const damaged = join(checkpoints, "step-00000003", "projection_head.safetensors");
  const bytes = readFileSync(damaged);
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
  writeFileSync(damaged, bytes);
  const said: string[] = [];
  expect(await open({ checkpoint: "latest", warn: (text: string) => said.push(text) })).toBe(
    join(checkpoints, "step-00000002"),
  );
  expect(said.join()).toMatch(/SHA-256 differs; the checkpoint before it is used/);
  await expect(openBundle(join(checkpoints, "step-00000003"), device)).rejects.toThrow(/SHA-256 differs/);
});

test("the head and the markers of another stage 1 may be used", async ({ device }) => {
  const [first, second] = await Promise.all(
    ["setup.safetensors", "stage1_mse_only_final.safetensors"].map((file) =>
      writeGoldenBundle(device, fresh(), { head: file }),
    ),
  );
  const own = await openBundle(first as string, device);
  const other = await openBundle(first as string, device, { stage1: second });
  const want = await openBundle(second as string, device);
  const hidden = own.pretrained.model.embed(Int32Array.of(1, 2, 3));
  const made = await Promise.all([own, other, want].map((bundle) => (bundle.source as LatentSource)(hidden).read()));
  expect(made[1]).toEqual(made[2]);
  expect(made[1]).not.toEqual(made[0]);
});

test("another base, a base that is gone and a path without anything are said with the mend", async ({ device }) => {
  const student = await openFresh(device);
  const moved = fresh();
  cpSync(base, moved, { recursive: true, filter: (path) => !path.endsWith("/golden") });
  const { path } = await roundTrip(device, student);
  expect((await openBundle(path, device, { base: moved })).base.path).toBe(moved);

  const file = join(moved, "model.safetensors");
  const bytes = readFileSync(file);
  const at = 8 + Number(bytes.readBigUInt64LE(0)) + 1;
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(file, bytes);
  await expect(openBundle(path, device, { base: moved })).rejects.toThrow(
    /is not the model .*its weights differ.*--model DIR/,
  );
  const config = readFileSync(join(moved, "config.json"), "utf8");
  writeFileSync(join(moved, "config.json"), config.replace('"rope_theta": 5000000', '"rope_theta": 10000'));
  await expect(openBundle(path, device, { base: moved })).rejects.toThrow(/its config.json describes another model/);
  await expect(openBundle(path, device, { base: fresh() })).rejects.toThrow(
    /there is none \(no config\.json\): say where it is with --model DIR/,
  );

  await expect(openBundle(fresh(), device)).rejects.toThrow(/^there is no /);
  const empty = fresh();
  mkdirSync(join(empty, "one", "checkpoints"), { recursive: true });
  await expect(openBundle(empty, device)).rejects.toThrow(/holds several runs; name one of them: .*one/);
  const published = fresh();
  mkdirSync(join(published, "global_step5"), { recursive: true });
  await expect(openBundle(published, device)).rejects.toThrow(/checkpoint of the published code/);
});

const good: BundleConfig & { format: number } = {
  format: 1,
  ...described,
  base: { path: "m", config: "0".repeat(64), weights: "0".repeat(64) },
  markers: { own: false, begin: 1, end: 3, vocabulary: 4 },
};

test.for<[string, object]>([
  ["format", { format: 2 }],
  ["mode", { mode: "base" }],
  ["base.path", { base: { ...good.base, path: "" } }],
  ["base.weights", { base: { ...good.base, weights: "x" } }],
  ["markers", { markers: { own: false, begin: 1, end: 4, vocabulary: 4 } }],
  ["markers", { markers: { own: false, begin: 3, end: 3, vocabulary: 4 } }],
  ["markers.begin", { markers: { own: false, begin: -1, end: 3, vocabulary: 4 } }],
  ["latents without markers", { markers: null }],
  ["markers without latents", { latents: null }],
  ["head.hidden", { head: { ...head, hidden: 2 ** 40 } }],
  ["head.activation", { head: { ...head, activation: "tanh" } }],
  ["latents", { latents: { budget: 3, max: 4 } }],
  ["latents", { latents: { max: 4, threshold: -1 } }],
  ["strips.fontSize", { strips: { ...paperStrips, fontSize: 0 } }],
  ["Unrecognized key", { evil: 1 }],
])("bundle.json is refused for its %s", ([what, change]) => {
  expect(parseBundleConfig(good, "bundle.json")).toMatchObject({ mode: "stage1" });
  expect(() => parseBundleConfig({ ...good, ...change }, "bundle.json")).toThrow(what);
});

test("golden markers are those that were written", async ({ device }) => {
  const path = await writeGoldenBundle(device, fresh(), { head: "setup.safetensors" });
  const opened = await openBundle(path, device, { dtype: "f32" });
  const rows = readMarkers(opened.pretrained.weights, opened.markers as never);
  for (const [token, row] of await tensorsOf(device, "setup.safetensors", "token.")) {
    expect(await rows.get(token.slice(1, -1))?.read(), token).toEqual(await row.read());
  }
});
