/** Generations give back all they took. Models are held, so that no garbage collection changes the figures. */
import { assign, copy, full, type Tensor } from "@rot/tensor";
import type { Random } from "@rot/tensor/cases";
import { expect, test } from "@rot/tensor/testing";
import { PATCH, type Tiny, tinyConfig, tinyModel } from "../../test/tools/tiny-qwen3-vl.ts";
import { ContextError, NumericError } from "./error.ts";
import { collect, generate, type GenerateOptions } from "./generate.ts";
import type { Prompt } from "./prefill.ts";

const shallow = {
  ...tinyConfig,
  text_config: { ...tinyConfig.text_config, num_hidden_layers: 1 },
  vision_config: { ...tinyConfig.vision_config, depth: 1, deepstack_visual_indexes: [0] },
};
let held: Tiny | undefined;
const model = (random: Random): Tiny["model"] => (held ??= tinyModel(random, shallow)).model;

function prompts(random: Random): Prompt[] {
  const image = { pixelValues: random.normals(8 * PATCH), patchLength: PATCH, imageGridThw: [[1, 2, 4]] as const };
  return [{ ids: [1, 90, 90, 4], images: image }, { ids: [5] }, { ids: [6, 7, 8] }];
}

const run = (random: Random, given: readonly Prompt[], options: GenerateOptions) =>
  collect(generate(model(random), given, options), given.length);

test("1,000 generations leave the memory of the device flat", { timeout: 240_000 }, async ({ device, random }) => {
  const given = prompts(random);
  const once = (i: number) =>
    run(random, [given[i % 10 === 0 ? 0 : 1 + (i % 2)] as Prompt], {
      maxNewTokens: 2,
      temperature: i % 3,
      seed: i,
      ahead: i % 5 === 0,
      ...(i % 7 === 0 && { logProbs: 2 }),
    });
  for (let i = 0; i < 30; i++) await once(i);
  const { live, peak } = device.memory();
  for (let i = 30; i < 1000; i++) await once(i);
  expect(device.memory()).toMatchObject({ live, peak });
});

test.for([false, true])("leaving early gives the memory back; a step ahead: %s", async (ahead, { device, random }) => {
  const vlm = model(random);
  const { live } = device.memory();
  for await (const { sequence } of generate(vlm, prompts(random), { maxNewTokens: 50, ahead })) {
    if (sequence === 1) break;
  }
  expect(device.memory().live).toBe(live);
});

test("a refused prompt leaves nothing behind", async ({ device, random }) => {
  const vlm = model(random);
  const { live } = device.memory();
  const bad: [Prompt, string | typeof ContextError][] = [
    [{ ids: Array<number>(vlm.maxPositions).fill(1) }, ContextError],
    [{ ids: [97] }, "97"],
    [{ ids: [90] }, "more images than"],
    [{ ids: [1], images: (prompts(random)[0] as Required<Prompt>).images }, "0 images"],
  ];
  for (const [prompt, why] of bad) {
    await expect(run(random, [{ ids: [1] }, prompt], { maxNewTokens: 1 })).rejects.toThrow(why);
  }
  await expect(run(random, [{ ids: [1] }], { maxNewTokens: 1, temperature: -1 })).rejects.toThrow("temperature is -1");
  expect(device.memory().live).toBe(live);
});

test.for([0, 1])(
  "scores that are no numbers are an error, at temperature %s",
  async (temperature, { device, random }) => {
    const vlm = model(random);
    const norm = held?.parameters.get("model.language_model.norm.weight") as Tensor;
    using before = copy(norm);
    using nan = full(device, norm.shape, NaN);
    assign(norm, nan);
    const { live } = device.memory();
    for (const ahead of [false, true]) {
      const options = { maxNewTokens: 3, temperature, ahead };
      await expect(collect(generate(vlm, prompts(random), options), 3)).rejects.toThrow(NumericError);
    }
    expect(device.memory().live).toBe(live);
    assign(norm, before);
  },
);
