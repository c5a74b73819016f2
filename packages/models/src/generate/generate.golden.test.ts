/** Greedy generation against transformers, through the public functions. */
import { join } from "node:path";
import { expect, test } from "@rot/tensor/testing";
import { describe } from "vitest";
import { GoldenFile, goldenFolder, json, toleranceOf } from "../../test/tools/golden-folder.ts";
import type { Image } from "../image-processor/image.ts";
import { loadImageProcessor } from "../node/processor.ts";
import { fromPretrained } from "../node/pretrained.ts";
import { collect, generate } from "./generate.ts";
import type { Prompt } from "./prefill.ts";

interface Case {
  readonly file: string;
  readonly inputs: string;
}

const folder = goldenFolder("qwen3vl_tiny");
const golden = join(folder, "golden");
const { generate: cases } = json<{ readonly generate: readonly Case[] }>(golden, "index.json");
const tolerance = toleranceOf(folder);

/** The prompts of a case, without padding; images belong to its first prompt that has places for them. */
async function promptsOf({ file, inputs }: Case, imageToken: number): Promise<Prompt[]> {
  const elsewhere = /^(\S+\.safetensors) (\S+)$/.exec(inputs);
  const source = await GoldenFile.open(golden, elsewhere?.[1] ?? file);
  const prefix = elsewhere ? `${elsewhere[2]}.` : "";
  const rows = await source.rows(`${prefix}input_ids`);
  const mask = source.has(`${prefix}attention_mask`) ? await source.rows(`${prefix}attention_mask`) : null;
  const prompts = rows.map((row, b) => row.filter((_, l) => mask?.[b]?.[l] !== 0));
  const images: Image[] = [];
  for (let j = 0; source.has(`${prefix}image_${j}`); j++) {
    const { shape, values } = await source.host(`${prefix}image_${j}`);
    const [height = 0, width = 0] = shape;
    images.push({ height, width, channels: 3, data: Uint8Array.from(values) });
  }
  const processor = await loadImageProcessor(folder);
  return prompts.map((ids) => {
    let [left, taken] = [ids.filter((id) => id === imageToken).length, 0];
    for (const image of images) {
      if (left <= 0) break;
      const { imageGridThw } = processor.process([image]);
      left -= imageGridThw.reduce((sum, grid) => sum + processor.tokens(grid), 0);
      taken++;
    }
    return { ids, images: processor.process(images.splice(0, taken)) };
  });
}

describe.for(cases)("$file", (one) => {
  test.for([false, true])("the same tokens and scores, a step ahead: %s", async (ahead, { device }) => {
    const { model, config } = await fromPretrained(folder, device);
    const file = await GoldenFile.open(golden, one.file);
    const wanted = await file.rows("new_tokens");
    const prompts = await promptsOf(one, config.imageToken);
    const maxNewTokens = (wanted[0] as number[]).length;
    const all = await collect(generate(model, prompts, { maxNewTokens, logProbs: 3, ahead }), prompts.length);
    expect(all.map(({ ids }) => ids)).toEqual(wanted);
    expect(all.map(({ finish }) => finish)).toEqual(wanted.map(() => "length"));

    for (const key of file.keys.filter((name) => name.startsWith("logits_of_first_"))) {
      const { shape, values } = await file.host(key);
      const [B = 0, steps = 0, V = 0] = shape;
      for (let row = 0; row < B * steps; row++) {
        const logits = Array.from({ length: V }, (_, i) => values[row * V + i] as number);
        const most = Math.max(...logits);
        const total = most + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
        const token = all[Math.floor(row / steps)]?.tokens[row % steps];
        // Both a logit and the logarithm of the sum may be off by what the README allows.
        const allowed = 2 * tolerance * Math.max(...logits.map(Math.abs));
        for (const { id, logProb } of token?.top ?? []) {
          expect(Math.abs(logProb - ((logits[id] as number) - total)), `${key}, row ${row}`).toBeLessThan(allowed);
        }
        // Which of two is the better is known only where they differ by more than that.
        const best = logits.toSorted((a, b) => b - a);
        expect(token?.top).toHaveLength(3);
        for (const [i, { id }] of token?.top?.entries() ?? []) {
          expect((best[i] as number) - (logits[id] as number), `${key}, row ${row}: choice ${i}`).toBeLessThan(allowed);
        }
        expect(token?.logProb).toBe(token?.top?.[0]?.logProb);
      }
    }
  });
});
