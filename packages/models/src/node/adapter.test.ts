import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Tensor, UsageError } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterEach, beforeEach } from "vitest";
import { WeightsError } from "../weights/error.ts";
import { createLora, type Lora } from "../lora/lora.ts";
import { loadAdapter, saveAdapter } from "./adapter.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-adapter-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const linears = new Map([["model.layers.0.q_proj", [8, 6] as const]]);
const plain = { r: 2, alpha: 4, targetModules: ["q_proj"] };

async function valuesOf(lora: Lora): Promise<Map<string, number[]>> {
  const values = new Map<string, number[]>();
  for (const [name, parameter] of lora.parameters) values.set(name, [...(await parameter.read())]);
  return values;
}

test("adapters come back from their folder, and the folder holds PEFT's two files", async ({ device }) => {
  const lora = createLora(plain, linears, device, { seed: 1 });
  const target = join(folder, "adapter");
  await saveAdapter(target, lora, { baseModel: "../base" });
  expect((await readdir(target)).toSorted()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  const loaded = await loadAdapter(target, linears, device);
  expect(await valuesOf(loaded)).toEqual(await valuesOf(lora));
  expect([...loaded.parameters.values()].map(({ dtype }: Tensor) => dtype)).toEqual(["f32", "f32"]);
  await expect(saveAdapter(target, lora)).rejects.toThrow(UsageError);
  await saveAdapter(target, loaded, { overwrite: true });
  expect(await readdir(folder)).toEqual(["adapter"]);
});

test("a folder that lacks a file or is of another model is refused with all that differs", async ({
  device,
  ownDevice,
}) => {
  await saveAdapter(join(folder, "adapter"), createLora(plain, linears, device, { seed: 1 }));
  const other = new Map([["model.layers.1.q_proj", [8, 6] as const]]);
  await expect(loadAdapter(join(folder, "adapter"), other, ownDevice)).rejects.toMatchObject({
    missing: ["A", "B"].map((which) => `base_model.model.model.layers.1.q_proj.lora_${which}.weight`),
    unexpected: ["A", "B"].map((which) => `base_model.model.model.layers.0.q_proj.lora_${which}.weight`),
  });
  expect(ownDevice.memory().live).toBe(0);
  const config = join(folder, "adapter", "adapter_config.json");
  for (const target_modules of ["(.*)*x", ["v_proj"]]) {
    await writeFile(config, JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 4, target_modules }));
    const error = await loadAdapter(join(folder, "adapter"), linears, device).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(WeightsError);
    expect((error as Error).message).toContain(`${config}: LoRA: `);
  }
  await writeFile(config, JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 4, target_modules: "all-linear" }));
  await rm(join(folder, "adapter", "adapter_model.safetensors"));
  await expect(loadAdapter(join(folder, "adapter"), linears, device)).rejects.toThrow(
    "adapter_model.safetensors: it is missing",
  );
  await writeFile(config, "{");
  await expect(loadAdapter(join(folder, "adapter"), linears, device)).rejects.toThrow(
    "adapter_config.json: it is not JSON",
  );
});
