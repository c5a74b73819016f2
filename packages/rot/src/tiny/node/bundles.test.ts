import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@rot/tensor/testing";
import { goldenFolder } from "../../../../models/test/tools/golden-folder.ts";
import { openBundle } from "../../bundle/node/index.ts";
import { subjectOf } from "../../evaluate/node/index.ts";
import { promptOf } from "../../methods/rot/stream.ts";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { writeCheckpoint } from "../../train/checkpoint-folder.ts";
import { createTinyHead, secondStage, thoughtPrompt } from "../arms.ts";
import { createTiny } from "../model.ts";
import { createProblems, STEPS } from "../problems.ts";
import { readLatents } from "../read.ts";
import { createStrips } from "../strips.ts";
import { isTiny, tinyBundles } from "./bundles.ts";
import { openShippedBase, shippedBase } from "./shipped.ts";

test("stages on the shipped base and on one of their own open as they were, and ask as they were trained", async ({
  device,
}) => {
  const folder = await mkdtemp(join(tmpdir(), "rot-tiny-bundles-"));
  try {
    const problems = createProblems(4);
    const material = { problems, strips: await createStrips(device, await dejaVuSans()) };
    for (const own of [false, true]) {
      const base = own ? createTiny(device, 3) : await openShippedBase(device);
      const bundles = await tinyBundles(base, own ? folder : null);
      const head = createTinyHead(base, 1);
      const { model, lora } = secondStage(base, head, material, { seed: 0 });
      for (const parameter of lora.parameters.values()) expect(parameter.requiresGrad).toBe(true);
      const run = join(folder, String(own));
      const path = await writeCheckpoint(join(run, "stage2", "checkpoints"), 1, bundles(model, head)());
      const opened = await openBundle(run, device);
      expect(opened.path).toBe(path);
      expect(opened.config).toMatchObject({ mode: "lora", latents: { budget: STEPS } });
      const subject = subjectOf(opened);
      const problem = problems.test[0]!;
      const prompt = thoughtPrompt(problem);
      expect(promptOf(subject, problem.question)).toEqual(prompt);
      const hidden = await subject.model.forward(subject.model.embed([Array.from(prompt)])).read();
      expect(hidden).toEqual(await model.model.forward(model.model.embed([Array.from(prompt)])).read());
      expect(await isTiny(run)).toBe(true);
      expect(await isTiny(path)).toBe(true);
      opened.dispose();
    }
    expect(await isTiny(join(folder, "base"))).toBe(true);
    for (const path of ["tiny", shippedBase]) expect(await isTiny(path)).toBe(true);
    for (const path of [folder, join(folder, "none"), goldenFolder("qwen3vl_tiny")])
      expect(await isTiny(path)).toBe(false);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the base reads the right steps in what the tower sees, also under adapters, and no more than it ever read", async ({
  device,
}) => {
  const base = await openShippedBase(device);
  const strips = await createStrips(device, await dejaVuSans());
  for (const { values } of createProblems(3).test) {
    expect(await readLatents(base, strips.see(base.model, [values]))).toEqual(values.map(String));
    expect(await readLatents(base, strips.see(base.model, [values.slice(0, 2)]))).toEqual(
      values.slice(0, 2).map(String),
    );
  }
  const two = strips.see(base.model, [
    [1, 2, 3, 4],
    [5, 6],
  ]);
  expect(await readLatents(base, two)).toBeNull();
  expect(await readLatents(base, two.rows(0, 0))).toBeNull();
});
