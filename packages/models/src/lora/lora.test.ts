import { backward, key, ones, requireGrad, type Tensor, tensor, untaped, UsageError } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { describe } from "vitest";
import { linear } from "../layers.ts";
import { recordArchitecture } from "../weights/architecture.ts";
import { WeightsError } from "../weights/error.ts";
import { randomInit } from "../weights/init.ts";
import { type Weights, weightsOf } from "../weights/weights.ts";
import type { LoraConfig } from "./config.ts";
import { createLora, loraFrom, loraParameters, withLora } from "./lora.ts";

/** Two linears, one after the other. */
const build = (w: Weights) => {
  const [first, second] = [linear(w.at("layers.0.q_proj"), 8, 6), linear(w.at("layers.0.o_proj"), 6, 8)];
  return (x: Tensor): Tensor => second(first(x));
};
const { linears } = recordArchitecture(build);
const architecture = recordArchitecture(build);
const config: LoraConfig = { r: 3, alpha: 6, targetModules: ["q_proj", "o_proj"] };
const path = "base_model.model.layers.0.q_proj";

/** Adapters whose B is not zero, over weights of a dtype. */
function adapted(
  device: Parameters<typeof createLora>[2],
  dtype: "f32" | "bf16" = "f32",
  own: Partial<LoraConfig> = {},
) {
  const weights = weightsOf(randomInit(architecture, device, { seed: 1, dtype, std: 0.5 }), device);
  const full = { ...config, ...own };
  const shapes = loraParameters(full, linears);
  const values = randomInit({ parameters: shapes, linears }, device, { seed: 2, dtype: "f32", std: 0.5 });
  return { weights, lora: loraFrom(full, linears, values, "test"), values };
}
const input = (device: Parameters<typeof createLora>[2]): Tensor =>
  tensor(
    device,
    Float32Array.from({ length: 30 }, (_, i) => Math.sin(i)),
    { shape: [5, 6] },
  );

test("fresh adapters change nothing, have PEFT's names and its Kaiming bound of 1/√inputs", async ({ device }) => {
  const weights = weightsOf(randomInit(architecture, device, { seed: 1, dtype: "f32" }), device);
  const lora = createLora(config, linears, device, { seed: 3 });
  expect([...lora.parameters].map(([name, { shape }]) => [name, shape])).toEqual([
    [`${path}.lora_A.weight`, [3, 6]],
    [`${path}.lora_B.weight`, [8, 3]],
    ["base_model.model.layers.0.o_proj.lora_A.weight", [3, 8]],
    ["base_model.model.layers.0.o_proj.lora_B.weight", [6, 3]],
  ]);
  const x = input(device);
  expect(await build(withLora(weights, lora))(x).read()).toEqual(await build(weights)(x).read());
  const A = [...((await lora.parameters.get(`${path}.lora_A.weight`)?.read()) ?? [])].map(Math.abs);
  expect(Math.max(...A)).toBeLessThanOrEqual(1 / Math.sqrt(6));
  expect(Math.max(...A)).toBeGreaterThan(0.7 / Math.sqrt(6));
  const again = createLora({ ...config, targetModules: ["q_proj"] }, linears, device, { seed: 3 });
  expect([...((await again.parameters.get(`${path}.lora_A.weight`)?.read()) ?? [])].map(Math.abs)).toEqual(A);
});

test.for([
  { own: {}, scaling: 2 },
  { own: { rslora: true }, scaling: 6 / Math.sqrt(3) },
  { own: { alphaPattern: new Map([["q_proj", 1]]) }, scaling: 1 / 3 },
  { own: { rankPattern: new Map([["layers.0.q_proj", 5]]) }, scaling: 6 / 5 },
])("it adds scaling · x·Aᵀ·Bᵀ: $own", async ({ own, scaling }, { device }) => {
  const { weights, lora, values } = adapted(device, "f32", own);
  const x = input(device);
  const [A, B] = ["A", "B"].map((which) => values.get(`${path}.lora_${which}.weight`) as Tensor) as [Tensor, Tensor];
  const W = weights.get("layers.0.q_proj.weight", [8, 6]);
  const t = { transposeB: true };
  const want = x.matmul(W, t).add(x.matmul(A, t).matmul(B, t).mul(scaling));
  await expect(linear(withLora(weights, lora).at("layers").at(0).at("q_proj"), 8, 6)(x)).toBeClose(want, {
    absolute: 1e-5,
  });
});

test("merged weights give what the adapters gave; unmerged they are what they were", async ({ device }) => {
  const { weights, lora } = adapted(device);
  const x = input(device);
  const view = withLora(weights, lora);
  const [base, model] = [build(weights), build(view)];
  const [without, withIt] = [await base(x).read(), await model(x).read()];
  lora.merge(weights);
  expect(lora.isMerged).toBe(true);
  await expect(build(view)(x)).toBeClose(withIt, { absolute: 1e-4 });
  expect(() => model(x)).toThrow("build the model again");
  expect(() => lora.merge(weights)).toThrow(UsageError);
  lora.unmerge(weights);
  await expect(model(x)).toBeClose(withIt, { absolute: 1e-4 });
  await expect(base(x)).toBeClose(without, { absolute: 1e-4 });
  expect(() => lora.unmerge(weights)).toThrow("are not merged");
});

test("bf16 weights stay bf16 and frozen; f32 adapters get gradients", async ({ device }) => {
  const { weights, lora } = adapted(device, "bf16");
  for (const parameter of lora.parameters.values()) requireGrad(parameter);
  backward(build(withLora(weights, lora))(input(device)).square().sum());
  for (const [name, parameter] of lora.parameters) {
    expect(parameter.dtype).toBe("f32");
    const gradient = [...((await parameter.grad?.read()) ?? [])];
    expect(
      gradient.some((value) => value !== 0),
      name,
    ).toBe(true);
  }
  const W = weights.get("layers.0.q_proj.weight", [8, 6]);
  expect([W.dtype, W.requiresGrad]).toEqual(["bf16", false]);
  untaped(() => lora.merge(weights));
  expect(W.dtype).toBe("bf16");
});

test("dropout falls on the input of A alone, by step, linear and sample, and only while it is set", async ({
  device,
}) => {
  const { weights, lora } = adapted(device, "f32", { dropout: 0.5 });
  const view = withLora(weights, lora);
  const x = input(device).reshape(5, 1, 6);
  const run = async (at: Weights = view) => [...(await build(at)(x).read())];
  const still = await run();
  lora.setDropout(key(1).for("lora", 1));
  const [one, again] = [await run(), await run()];
  expect(one).toEqual(again);
  expect(one).not.toEqual(still);
  lora.setDropout(key(1).for("lora", 2));
  expect(await run()).not.toEqual(one);
  expect(await run(weights)).not.toEqual(still);

  const samples = Int32Array.of(7, 8, 9, 10, 11);
  lora.setDropout(key(1), tensor(device, samples));
  const batch = await run();
  lora.setDropout(key(1), tensor(device, samples.slice(3, 4)));
  const fourth = [...(await build(view)(x.slice([3, 4])).read())];
  expect(fourth).toEqual(batch.slice(18, 24));

  lora.setDropout(null);
  expect(await run()).toEqual(still);
});

test("linears of one step lose different elements", async ({ device }) => {
  const twins = new Map(["a.proj", "b.proj"].map((at) => [at, [8, 6] as const]));
  const own = { r: 3, alpha: 3, dropout: 0.5, targetModules: ["proj"] };
  const values = new Map<string, Tensor>();
  for (const [name, shape] of loraParameters(own, twins)) values.set(name, ones(device, shape));
  const lora = loraFrom(own, twins, values, "test");
  lora.setDropout(key(1));
  const x = input(device);
  const [a, b] = ["a.proj", "b.proj"].map((at) => lora.adapter(at)?.(x) as Tensor) as [Tensor, Tensor];
  expect(await a.read()).not.toEqual(await b.read());
});

test("two sets of adapters on one view add up", async ({ device }) => {
  const { weights, lora } = adapted(device);
  const at = "layers.0.q_proj";
  const [one, both] = [withLora(weights, lora), withLora(withLora(weights, lora), lora)];
  const x = input(device);
  const [added, twice] = [one, both].map((view) => view.at(at).adapter?.(x) as Tensor) as [Tensor, Tensor];
  await expect(twice).toBeClose(added.mul(2), { absolute: 1e-5 });
});

describe("what does not fit is refused", () => {
  test("names that match nothing", ({ device }) => {
    const make = (targetModules: string | string[]) => () =>
      createLora({ ...config, targetModules }, linears, device, { seed: 1 });
    expect(make(["q_proj", "k_proj"])).toThrow("k_proj of target_modules match no linear of the model: q_proj, o_proj");
    expect(make(String.raw`.*\.v_proj`)).toThrow("target_modules match no linear");
    expect(make(["proj"])).toThrow(UsageError);
  });
  test("tensors that are missing, too many or of another shape: one error lists them", ({ device }) => {
    const values = randomInit({ parameters: loraParameters(config, linears), linears }, device, { seed: 2 });
    const A = values.get(`${path}.lora_A.weight`) as Tensor;
    values.delete(`${path}.lora_A.weight`);
    values.set("base_model.model.embed.lora_embedding_A", A).set(`${path}.lora_B.weight`, A);
    let error: unknown;
    try {
      loraFrom(config, linears, values, "adapter");
    } catch (reason) {
      error = reason;
    }
    expect(error).toBeInstanceOf(WeightsError);
    expect(error).toMatchObject({
      missing: [`${path}.lora_A.weight`],
      unexpected: ["base_model.model.embed.lora_embedding_A"],
      misshapen: [{ key: `${path}.lora_B.weight`, found: [3, 6], expected: [8, 3] }],
    });
  });
});
