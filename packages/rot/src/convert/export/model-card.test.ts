/** The card of a model, of runs that come from elsewhere. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ConfigurationError } from "../../config/load.ts";
import { modelCard } from "./model-card.ts";
import type { ExportSource } from "./source.ts";

let run = "";
beforeAll(async () => void (run = await mkdtemp(join(tmpdir(), "rot-card-"))));
afterAll(() => rm(run, { recursive: true }));

/** The card of a checkpoint in a run with this configuration. */
async function card(config: string): Promise<string> {
  await writeFile(join(run, "config.yaml"), config);
  const bundle = { mode: "stage1", base: { weights: "0" }, markers: null, head: null, latents: null };
  const folder = join(run, "checkpoints", "step-00000001");
  return await modelCard({ config: bundle, step: 1, base: { folder: "/models/base" }, folder } as ExportSource, "peft");
}

test("it says how the model was trained, without the paths of the machine", async () => {
  const text = await card(
    "model: /home/me/base\nrendering: {font: /home/me/my.ttf}\ndata: {dataset: /home/me/rows.jsonl}\n",
  );
  for (const line of ["model: base", "font: my.ttf", "dataset: rows.jsonl"]) expect(text).toContain(line);
  expect(text).not.toContain("/home");
});

test("a configuration that is none is refused, not printed", async () => {
  await expect(card("- 1\n")).rejects.toThrow(ConfigurationError);
});
