import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@rot/tensor/testing";
import { afterAll } from "vitest";
import { openGolden } from "../../../test/tools/golden-bundle.ts";
import { openBundle } from "../../bundle/node/index.ts";
import { subjectOf } from "../../evaluate/node/index.ts";
import { generateAnswers } from "./generate.ts";
import { promptOf, streamAnswers, type Thoughts } from "./stream.ts";

const { base, index, writeGoldenBundle } = openGolden("own");
const folder = mkdtempSync(join(tmpdir(), "rot-stream-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("what is streamed is what is generated at once, and memory is given back, also when the loop is left", async ({
  device,
}) => {
  const opened = await openBundle(await writeGoldenBundle(device, folder, { head: "setup.safetensors" }), device);
  const subject = subjectOf(opened, { budget: 2 });
  const { model, tokenizer, latents, stop } = subject;
  const prompts = index.samples.slice(0, 2).map(({ question }) => promptOf(subject, question));
  const { source, policy, markers } = latents!;
  const options = { maxNewTokens: 3, temperature: 1, seed: 2 };
  const want = await generateAnswers(model, source, prompts, { ...options, policy, markers, tokenizer, stop });
  const texts = prompts.map(() => "");
  const ids = prompts.map((): number[] => []);
  let thoughts: Thoughts | undefined;
  const stream = async (leaveEarly: boolean): Promise<void> => {
    for await (const made of streamAnswers(subject, prompts, { ...options, look: true })) {
      if ("thoughts" in made) {
        ({ thoughts } = made);
        if (leaveEarly) break;
        // What φ makes of each state is the latent itself.
        for (const [b, states] of thoughts.states.entries()) {
          await expect(source(states)).toBeClose(thoughts.latents[b]!, { relative: 1e-5 });
        }
      } else {
        texts[made.token.sequence] += made.token.text;
        if (made.token.finish !== "stop") ids[made.token.sequence]!.push(made.token.id);
      }
    }
  };
  await stream(false);
  expect(thoughts?.counts).toEqual([2, 2]);
  expect(texts).toEqual(want.map(({ text }) => text));
  expect(ids).toEqual(want.map((answer) => answer.ids));
  await device.sync();
  const before = device.memory().live;
  await stream(true);
  expect(device.memory().live).toBeLessThanOrEqual(before);
  opened.dispose();
});

test("a model without latents writes at once", async ({ device }) => {
  const opened = await openBundle(base, device);
  const subject = subjectOf(opened);
  const counts: number[][] = [];
  let tokens = 0;
  for await (const made of streamAnswers(subject, [promptOf(subject, "How many?")], { maxNewTokens: 3 })) {
    if ("thoughts" in made) counts.push([...made.thoughts.counts]);
    else tokens++;
  }
  expect([counts, tokens]).toEqual([[[0]], 3]);
  opened.dispose();
});
