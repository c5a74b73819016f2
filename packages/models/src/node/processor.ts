/** The tokenizer, chat template and image processor of a checkpoint folder. Node only. */

import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { ChatTemplate } from "../chat-template/chat-template.ts";
import { TemplateError } from "../chat-template/error.ts";
import { ImageError } from "../image-processor/error.ts";
import { ImageProcessor, type ImageProcessorOptions } from "../image-processor/image-processor.ts";
import { type DecodeImageOptions, decodeImage } from "../image-processor/node/decode-image.ts";
import type { Image } from "../image-processor/image.ts";
import { TokenizerError } from "../tokenizer/error.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Bytes of a text file or picture at most; the largest tokenizer.json we know of has 35 MB. */
const largestFile = 2 ** 28;

type Fault = new (message: string, options?: ErrorOptions) => Error;

/** The bytes of a file; undefined when there is none. Asked before it is opened: opening a pipe would wait for ever. */
async function readSmall(path: string, Fault: Fault): Promise<Buffer | undefined> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new Fault(`${path}: it is not a file`);
    if (found.size > largestFile)
      throw new Fault(`${path}: it has ${found.size} bytes; at most ${largestFile} are read`);
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw new Fault(`${path}: ${message}`, { cause });
  }
}

const readText = async (folder: string, name: string, Fault: Fault) =>
  (await readSmall(join(folder, name), Fault))?.toString("utf8");

/**
 * The tokenizer of a checkpoint folder: `tokenizer.json` and, where there is one, `tokenizer_config.json`.
 *
 * @throws {TokenizerError} when there is no tokenizer.json, or a file is damaged or unreadable
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const tokenizer = await readText(folder, "tokenizer.json", TokenizerError);
  if (tokenizer === undefined) throw new TokenizerError(`${folder} has no tokenizer.json`);
  const config = await readText(folder, "tokenizer_config.json", TokenizerError);
  return new Tokenizer({ tokenizer, name: folder, ...(config !== undefined && { config }) });
}

/**
 * The chat template of a checkpoint folder.
 *
 * @param tokenizer whose named tokens the template sees
 * @throws {TemplateError} when no file has one, or one is unreadable
 */
export async function loadChatTemplate(folder: string, tokenizer?: Tokenizer): Promise<ChatTemplate> {
  const [jinja, json, tokenizerConfig] = await Promise.all(
    ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"].map((name) =>
      readText(folder, name, TemplateError),
    ),
  );
  const files = {
    name: folder,
    ...(jinja !== undefined && { jinja }),
    ...(json !== undefined && { json }),
    ...(tokenizerConfig !== undefined && { tokenizerConfig }),
  };
  return ChatTemplate.fromFiles(files, tokenizer?.named);
}

/**
 * The image processor of a checkpoint folder, from `preprocessor_config.json`.
 *
 * @throws {ImageError} when there is none, or it is damaged or unreadable
 */
export async function loadImageProcessor(folder: string, options: ImageProcessorOptions = {}): Promise<ImageProcessor> {
  const name = join(folder, "preprocessor_config.json");
  const text = await readText(folder, "preprocessor_config.json", ImageError);
  if (text === undefined) throw new ImageError(`${folder} has no preprocessor_config.json`);
  return ImageProcessor.fromFile(text, { ...options, name });
}

/** The picture in a PNG or JPEG file. @throws {ImageError} when there is none, or as {@link decodeImage} does */
export async function loadImage(path: string, options: Omit<DecodeImageOptions, "name"> = {}): Promise<Image> {
  const bytes = await readSmall(path, ImageError);
  if (!bytes) throw new ImageError(`${path}: there is no such file`);
  return decodeImage(bytes, { ...options, name: path });
}
