import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Device, UsageError } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { afterEach, beforeEach } from "vitest";
import { GoldenFile, goldenFolder, json } from "../../test/tools/golden-folder.ts";
import type { ContentPart } from "../chat-template/chat-template.ts";
import { TemplateError } from "../chat-template/error.ts";
import { ImageError } from "../image-processor/error.ts";
import type { Image } from "../image-processor/image.ts";
import { fromPretrained } from "../node/pretrained.ts";
import type { Pretrained } from "../pretrained.ts";
import { TokenizerError } from "../tokenizer/error.ts";
import { WeightsError } from "../weights/error.ts";
import { ask, encodeConversation, generateText, type GeneratedText, type GenerateTextOptions } from "./chat.ts";
import { openChat } from "./node/open-chat.ts";
import type { Prompt } from "./prefill.ts";

const tiny = goldenFolder("qwen3vl_tiny");
let opened: Promise<Pretrained> | undefined;
const pretrained = (device: Device): Promise<Pretrained> => (opened ??= fromPretrained(tiny, device));

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-chat-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A copy of the tiny folder's small files. */
async function copied(): Promise<string> {
  await cp(tiny, folder, {
    recursive: true,
    filter: (from) => !/golden$|safetensors$|sharded/.test(from.slice(tiny.length)),
  });
  return folder;
}

async function texts(
  device: Device,
  prompts: readonly Prompt[],
  options: GenerateTextOptions,
  stopTokens: number[] = [],
) {
  const { tokenizer } = await openChat(tiny);
  const { model } = await pretrained(device);
  const got = prompts.map((): GeneratedText[] => []);
  for await (const token of generateText(model, { tokenizer, stopTokens }, prompts, options)) {
    got[token.sequence]?.push(token);
  }
  return got.map((tokens) => ({
    text: tokens.map(({ text }) => text).join(""),
    pieces: tokens.map(({ text }) => text),
    ids: tokens.map(({ id }) => id),
    finish: tokens.at(-1)?.finish,
  }));
}

test("a conversation with pictures has transformers' tokens", async () => {
  const index = json<{ image_text: { case: string; prompt: string }[] }>(tiny, "golden", "index.json");
  const file = await GoldenFile.open(tiny, "golden", "image_text.safetensors");
  const chat = await openChat(tiny);
  for (const { case: name, prompt } of index.image_text) {
    const images: Image[] = [];
    for (let j = 0; file.has(`${name}.image_${j}`); j++) {
      const { shape, values } = await file.host(`${name}.image_${j}`);
      images.push({
        height: shape[0] as number,
        width: shape[1] as number,
        channels: 3,
        data: Uint8Array.from(values),
      });
    }
    const turns = [...prompt.matchAll(/<\|im_start\|>(system|user)\n([\s\S]*?)<\|im_end\|>/g)];
    const parts = (text: string): ContentPart[] =>
      text
        .split("<|vision_start|><|image_pad|><|vision_end|>")
        .flatMap((between, i): ContentPart[] => [
          ...(i > 0 ? [{ type: "image" } as const] : []),
          { type: "text", text: between },
        ]);
    const messages = turns.map(([, role = "", text = ""]) => ({ role, content: parts(text) }));
    const { ids, images: pixels } = encodeConversation(chat, { messages, images });
    expect(Array.from(ids)).toEqual((await file.rows(`${name}.input_ids`))[0]);
    expect(pixels?.imageGridThw).toEqual(await file.rows(`${name}.image_grid_thw`));
  }
});

test("pictures stand before the question, the system message before both", async () => {
  const chat = await openChat(tiny);
  const image: Image = { width: 64, height: 32, channels: 1, data: new Uint8Array(2048) };
  const { ids } = encodeConversation(chat, ask("Why?", { images: [image, image], system: "Be brief." }));
  const pads = "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>";
  expect(chat.tokenizer.decode(Array.from(ids))).toBe(
    `<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n${pads}${pads}Why?<|im_end|>\n<|im_start|>assistant\n`,
  );
});

test("pieces of text join to what the ids decode to, whatever the batch", async ({ device }) => {
  const chat = await openChat(tiny);
  const prompts = ["What is 7 × 8?", "漢字 👍🏽 ünïcödé", "x"].map((text) => encodeConversation(chat, ask(text)));
  const options = { maxNewTokens: 40, temperature: 3, seed: 2 };
  const all = await texts(device, prompts, options);
  let isSplit = false;
  for (const { text, pieces, ids, finish } of all) {
    expect(text).toBe(chat.tokenizer.decode(ids, { skipSpecialTokens: true }));
    expect(pieces).toHaveLength(40);
    expect(finish).toBe("length");
    isSplit ||= pieces.slice(0, -1).includes("");
  }
  // Some character lay in several tokens, or this shows little.
  expect(isSplit).toBe(true);
  const alone = await texts(device, [prompts[2] as Prompt], { ...options, samples: [2] });
  expect(alone[0]?.text).toBe(all[2]?.text);
});

test("answers end before a stop string and at a stop token", async ({ device }) => {
  const chat = await openChat(tiny);
  const prompts = ["What is 7 × 8?", "Ben packs 9 boxes."].map((text) => encodeConversation(chat, ask(text)));
  const options = { maxNewTokens: 24 };
  const free = await texts(device, prompts, options);
  const [first] = free;
  if (!first) throw new Error("no answer");
  // From the middle of one token to the middle of a later one.
  const from = first.pieces.slice(0, 3).join("").length - 1;
  const stop = first.text.slice(from, from + 5);
  const stopped = await texts(device, prompts, { ...options, stopStrings: ["never there", stop] });
  for (const [i, { text, finish }] of stopped.entries()) {
    const whole = free[i]?.text ?? "";
    const at = whole.indexOf(stop);
    expect(text).toBe(at < 0 ? whole : whole.slice(0, at));
    expect(finish).toBe(at < 0 ? "length" : "stop");
  }
  expect(stopped[0]?.finish).toBe("stop");
  expect(stopped[0]?.ids.length).toBeLessThan(first.ids.length);
  // What may begin a stop string is not lost when none comes.
  const [held] = await texts(device, prompts, { ...options, stopStrings: [`${first.text.at(-1)}never there`] });
  expect(held?.text).toBe(first.text);
  const token = first.ids[5] as number;
  const [ended] = await texts(device, prompts, options, [token]);
  expect(ended?.ids).toEqual(first.ids.slice(0, first.ids.indexOf(token) + 1));
  await expect(texts(device, prompts, { ...options, stopStrings: [""] })).rejects.toThrow(UsageError);
});

test("a picture for which there is no place, and a place without a picture", async () => {
  const chat = await openChat(tiny);
  const image: Image = { width: 32, height: 32, channels: 1, data: new Uint8Array(1024) };
  const messages = [{ role: "user", content: "no place" }];
  expect(() => encodeConversation(chat, { messages, images: [image] })).toThrow(ImageError);
  expect(() => encodeConversation(chat, ask("<|image_pad|>"))).toThrow("1 places for pictures");
  const long = { ...image, width: 32 * 201, height: 32, data: new Uint8Array(32 * 201 * 32) };
  expect(() => encodeConversation(chat, ask("?", { images: [long] }))).toThrow("aspect ratio");
});

test("stop tokens are the generation config's, else the tokenizer's", async () => {
  const at = await copied();
  const write = (content: string): Promise<void> => writeFile(join(at, "generation_config.json"), content);
  await rm(join(at, "generation_config.json"), { force: true });
  const { tokenizer, stopTokens } = await openChat(at);
  expect(stopTokens).toEqual([tokenizer.eosId]);
  await write('{"eos_token_id": [7, 9], "do_sample": true}');
  expect((await openChat(at)).stopTokens).toEqual([7, 9]);
  await write('{"eos_token_id": 7}');
  expect((await openChat(at)).stopTokens).toEqual([7]);
  await write("{}");
  expect((await openChat(at)).stopTokens).toEqual([tokenizer.eosId]);
  for (const bad of ['{"eos_token_id": "x"}', '{"eos_token_id": [-1]}', "[]", "{"]) {
    await write(bad);
    await expect(openChat(at)).rejects.toThrow(WeightsError);
    await expect(openChat(at)).rejects.toThrow("generation_config.json");
  }
});

test("a tokenizer without the tokens for images, or of another model, is named", async () => {
  const at = await copied();
  const file = join(at, "tokenizer.json");
  const { tokenizer } = await openChat(at);
  const pad = tokenizer.id("<|image_pad|>");
  await expect(openChat(at, { imageToken: pad })).resolves.toBeDefined();
  await expect(openChat(at, { imageToken: pad + 1 })).rejects.toThrow(
    new TokenizerError(
      `${file}: <|image_pad|> is token ${pad}, but config.json says image_token_id ${pad + 1}: they are of two models`,
    ),
  );
  const content = await readFile(file, "utf8");
  await writeFile(file, content.replaceAll("<|vision_end|>", "<|vision_fin|>"));
  await expect(openChat(at)).rejects.toThrow(/tokenizer\.json has no token <\|vision_end\|>/);
  await rm(join(at, "chat_template.json"));
  const config = join(at, "tokenizer_config.json");
  await writeFile(config, (await readFile(config, "utf8")).replace('"chat_template"', '"no_template"'));
  await writeFile(file, content);
  await expect(openChat(at)).rejects.toThrow(TemplateError);
});
