import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ImageError } from "../image-processor/error.ts";
import { TemplateError } from "../chat-template/error.ts";
import { TokenizerError } from "../tokenizer/error.ts";
import { loadChatTemplate, loadImage, loadImageProcessor, loadTokenizer } from "./processor.ts";

const golden = fileURLToPath(new URL("../../test/golden/", import.meta.url));
const tiny = join(golden, "qwen3vl_tiny");

test("a checkpoint folder gives its tokenizer, template and image processor", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const template = await loadChatTemplate(tiny, tokenizer);
  const processor = await loadImageProcessor(tiny);
  const image = await loadImage(join(golden, "image_processor", "00.png"));
  const { imageGridThw } = processor.process([image]);
  expect(imageGridThw).toHaveLength(1);
  const prompt = template.render([{ role: "user", content: [{ type: "image" }] }]);
  expect(tokenizer.encode(prompt)).toContain(tokenizer.id("<|image_pad|>"));
});

test("what a folder lacks is named", async () => {
  const empty = await mkdtemp(join(tmpdir(), "rot-processor-"));
  try {
    await expect(loadTokenizer(empty)).rejects.toThrow(new TokenizerError(`${empty} has no tokenizer.json`));
    await expect(loadChatTemplate(empty)).rejects.toThrow(TemplateError);
    await expect(loadImageProcessor(empty)).rejects.toThrow(`${empty} has no preprocessor_config.json`);
    await expect(loadImage(join(empty, "a.png"))).rejects.toThrow(ImageError);
    for (const [name, load, Fault] of [
      ["tokenizer.json", () => loadTokenizer(empty), TokenizerError],
      ["chat_template.jinja", () => loadChatTemplate(empty), TemplateError],
      ["preprocessor_config.json", () => loadImageProcessor(empty), ImageError],
      ["a.png", () => loadImage(join(empty, "a.png")), ImageError],
    ] as const) {
      await mkdir(join(empty, name));
      await expect(load()).rejects.toThrow(new Fault(`${join(empty, name)}: it is not a file`));
      await rm(join(empty, name), { recursive: true });
    }
    await writeFile(join(empty, "tokenizer.json"), "{");
    await expect(loadTokenizer(empty)).rejects.toThrow(`${join(empty, "tokenizer.json")} is not JSON`);
  } finally {
    await rm(empty, { recursive: true });
  }
});
