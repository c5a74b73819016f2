import { tensor, type Tensor, UsageError } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { refusing } from "../../test/tools/refuse-buffers.ts";
import { createLora } from "../lora/lora.ts";
import { checkKeys, compareKeys, recordArchitecture } from "./architecture.ts";
import { WeightsError } from "./error.ts";
import { randomInit } from "./init.ts";
import { resizeTokenEmbeddings } from "./resize.ts";
import { type Weights, weightsOf } from "./weights.ts";

/** A linear, a bias, a norm and a table that no adapter goes on. */
function build(w: Weights): void {
  const layer = w.at("layers").at(0);
  const proj = layer.at("proj");
  proj.get("weight", [4, 6]);
  proj.get("bias", [4]);
  void proj.adapter;
  layer.get("norm.weight", [6]);
  w.get("embed.weight", [8, 6]);
}
const architecture = recordArchitecture(build);

test("a builder tells the parameters in its order, and which of its modules are linears", () => {
  expect([...architecture.parameters]).toEqual([
    ["layers.0.proj.weight", [4, 6]],
    ["layers.0.proj.bias", [4]],
    ["layers.0.norm.weight", [6]],
    ["embed.weight", [8, 6]],
  ]);
  expect([...architecture.linears]).toEqual([["layers.0.proj", [4, 6]]]);
});

test("a builder that uses the device, a value or two shapes for one key is refused", () => {
  expect(() => recordArchitecture((w) => w.device)).toThrow(UsageError);
  expect(() => recordArchitecture((w) => w.get("a", [2]).storage)).toThrow("a stands for its shape only");
  expect(() => recordArchitecture((w) => [w.get("a", [2]), w.get("a", [3])])).toThrow("wants a as [2] and [3]");
  expect(() => recordArchitecture((w) => w.at("norm").adapter)).toThrow("norm asks for an adapter, but has no weight");
});

test("one error lists every missing, unexpected and mis-shaped key, and is short for thousands", () => {
  const found = new Map([
    ["layers.0.proj.weight", [6, 4]],
    ["layers.0.norm.weight", [6]],
    ["embed.weight", [8, 6, 1]],
    ["extra.weight", [1]],
    ["lm_head.weight", [8, 6]],
    ["layers.0.self_attn.rotary_emb.inv_freq", [3]],
  ]);
  expect(compareKeys(architecture, found, ["lm_head.weight"])).toEqual({
    missing: ["layers.0.proj.bias"],
    unexpected: ["extra.weight"],
    misshapen: [
      { key: "layers.0.proj.weight", found: [6, 4], expected: [4, 6] },
      { key: "embed.weight", found: [8, 6, 1], expected: [8, 6] },
    ],
  });
  expect(() => checkKeys(architecture, found, "folder")).toThrow(
    [
      "folder: its tensors are not those of the model that its config describes (6 found, 4 expected)",
      "  missing (1):",
      "    layers.0.proj.bias",
      "  unexpected (2):",
      "    extra.weight",
      "    lm_head.weight",
      "  of another shape (2):",
      "    layers.0.proj.weight: [6, 4], expected [4, 6]",
      "    embed.weight: [8, 6, 1], expected [8, 6]",
    ].join("\n"),
  );
  const many = new Map(Array.from({ length: 5000 }, (_, i) => [`x.${i}`, [1]] as const));
  const error = new WeightsError("many", compareKeys(architecture, many));
  expect(error.unexpected.length).toBe(5000);
  expect(error.message).toContain("unexpected (5000):");
  expect(error.message).toContain("and 4980 more");
  expect(error.message.split("\n").length).toBeLessThan(40);
  expect(() => checkKeys(architecture, architecture.parameters, "same")).not.toThrow();
});

test("hostile keys and shapes neither forge lines of a message nor make it long", () => {
  const found = new Map([
    ["a\n  missing (1):", [1]],
    ["b".repeat(1e6), [1]],
    ["embed.weight", Array.from({ length: 1e5 }, () => 1)],
  ]);
  const { message } = new WeightsError("x", { ...compareKeys(architecture, found), missing: [] });
  expect(message.split("\n").length).toBe(6);
  expect(message).toContain(String.raw`"a\n  missing (1):"`);
  expect(message.length).toBeLessThan(400);
});

test("a view finds tensors by path and refuses what is missing or of another shape", ({ device }) => {
  const weight = tensor(device, [[1, 2]]);
  const root = weightsOf(new Map([["a.0.weight", weight]]), device);
  const view = root.at("a").at(0);
  expect([root.path, view.path, root.at("a.0").path]).toEqual(["", "a.0", "a.0"]);
  expect([view.has("weight"), view.has("bias"), root.has("a")]).toEqual([true, false, false]);
  expect(view.get("weight", [1, 2])).toBe(weight);
  expect(view.adapter).toBe(null);
  expect(() => view.get("bias", [1])).toThrow("there is no a.0.bias");
  for (const shape of [[2, 1], [1, 2, 1], [1], []]) {
    expect(() => view.get("weight", shape)).toThrow(WeightsError);
    expect(() => view.get("weight", shape)).toThrow(`a.0.weight: [1, 2], expected [${shape.join(", ")}]`);
  }
});

test("random parameters are those of transformers' initialisation, each a function of seed and name", async ({
  device,
}) => {
  const made = randomInit(architecture, device, { seed: 7, dtype: "f32" });
  expect([...made.keys()]).toEqual([...architecture.parameters.keys()]);
  const read = async (key: string) => await (made.get(key) as NonNullable<ReturnType<typeof made.get>>).read();
  expect([...(await read("layers.0.norm.weight"))]).toEqual([1, 1, 1, 1, 1, 1]);
  expect([...(await read("layers.0.proj.bias"))]).toEqual([0, 0, 0, 0]);
  const drawn = await read("layers.0.proj.weight");
  expect(Math.max(...drawn.map(Math.abs))).toBeLessThan(0.02 * 5);
  expect(new Set(drawn).size).toBe(24);

  const alone = recordArchitecture((w) => w.get("layers.0.proj.weight", [4, 6]));
  const again = randomInit(alone, device, { seed: 7, dtype: "f32" }).get("layers.0.proj.weight");
  expect(await again?.read()).toEqual(drawn);
  const twins = randomInit(
    recordArchitecture((w) => [w.get("a", [4, 6]), w.get("b", [4, 6])]),
    device,
    { seed: 7 },
  );
  expect(await twins.get("a")?.read()).not.toEqual(await twins.get("b")?.read());
  const other = randomInit(alone, device, { seed: 8, dtype: "f32" }).get("layers.0.proj.weight");
  expect(await other?.read()).not.toEqual(drawn);
  const half = randomInit(alone, device, { seed: 7 }).get("layers.0.proj.weight");
  expect(half?.dtype).toBe("bf16");
  await expect(half as NonNullable<typeof half>).toBeClose(drawn, { relative: 2 ** -8 });
});

test("where memory ends on the way, no random parameter and no adapter stays", ({ ownDevice: device }) => {
  const config = { r: 2, alpha: 2, targetModules: ["proj"] };
  const { live } = device.memory();
  for (let nth = 1; nth <= 3; nth++) refusing(device, nth, () => randomInit(architecture, device, { seed: 1 }));
  for (let nth = 1; nth <= 2; nth++) {
    refusing(device, nth, () => createLora(config, architecture.linears, device, { seed: 1 }));
  }
  expect(device.memory().live).toBe(live);
});

test("token tables grow by the mean of their rows, or by normal ones, and shrink from the end", async ({ device }) => {
  const rows = [
    [1, 2],
    [3, 6],
  ];
  const weights = new Map<string, Tensor>([
    ["embed.weight", tensor(device, rows)],
    ["lm_head.weight", tensor(device, rows, { dtype: "bf16" })],
  ]);
  const keys = [...weights.keys()];
  const old = weights.get("embed.weight");
  resizeTokenEmbeddings(weights, keys, 4);
  expect(old?.isDisposed).toBe(true);
  for (const key of keys) expect([...((await weights.get(key)?.read()) ?? [])]).toEqual([1, 2, 3, 6, 2, 4, 2, 4]);
  expect(weights.get("lm_head.weight")?.dtype).toBe("bf16");

  resizeTokenEmbeddings(weights, ["embed.weight"], 6, { seed: 3, std: 1 });
  const grown = [...((await weights.get("embed.weight")?.read()) ?? [])];
  expect(grown.slice(0, 8)).toEqual([1, 2, 3, 6, 2, 4, 2, 4]);
  weights.get("lm_head.weight")?.dispose();
  weights.set("lm_head.weight", tensor(device, rows));
  resizeTokenEmbeddings(weights, ["lm_head.weight"], 6, { seed: 3, std: 1 });
  const other = [...((await weights.get("lm_head.weight")?.read()) ?? [])];
  expect(new Set([...grown.slice(8), ...other.slice(4)]).size).toBe(12);

  resizeTokenEmbeddings(weights, keys, 1);
  for (const key of keys) expect([...((await weights.get(key)?.read()) ?? [])]).toEqual([1, 2]);
  expect(() => resizeTokenEmbeddings(weights, ["head"], 2)).toThrow("head is not there");
  expect(() => resizeTokenEmbeddings(weights, keys, 0)).toThrow("0 is no number of rows");
});
