/** What a checkpoint folder says about conversations. Node only. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { loadChatTemplate, loadImageProcessor, loadTokenizer } from "../../node/processor.ts";
import { readJson } from "../../node/load.ts";
import { TokenizerError } from "../../tokenizer/error.ts";
import { visionTokens } from "../../tokenizer/tokenizer.ts";
import { WeightsError } from "../../weights/error.ts";
import type { Chat } from "../chat.ts";

const token = z.int().nonnegative();
const generationConfig = z.looseObject({ eos_token_id: z.union([token, z.array(token).max(1024)]).nullish() });

/** What a folder's config says of its tokens; a parsed `Qwen3VlConfig` is one. */
export interface TokenIds {
  readonly imageToken: number;
}

/**
 * The tokenizer, chat template and image processor of a model's folder, and the tokens that end an answer: those of
 * `generation_config.json`, or else the tokenizer's `eos_token`.
 *
 * @param config  by default the tokenizer is not compared with the model
 * @throws {TokenizerError} when the tokenizer is missing, damaged, lacks the tokens around and for images, or is another
 *   model's
 * @throws {TemplateError | ImageError} when the template or the image processor is missing or damaged
 * @throws {WeightsError} when `generation_config.json` is damaged
 */
export async function openChat(folder: string, config?: TokenIds): Promise<Chat> {
  const tokenizer = await loadTokenizer(folder);
  const file = join(folder, "tokenizer.json");
  const { imagePad, visionStart, visionEnd } = visionTokens;
  const lacking = [imagePad, visionStart, visionEnd].filter((special) => !tokenizer.has(special));
  if (lacking.length > 0) {
    throw new TokenizerError(
      `${file} has no token ${lacking.join(", ")}: it is not the tokenizer of a Qwen vision model`,
    );
  }
  if (config && tokenizer.id(imagePad) !== config.imageToken) {
    throw new TokenizerError(
      `${file}: ${imagePad} is token ${tokenizer.id(imagePad)}, but config.json says image_token_id ${config.imageToken}: they are of two models`,
    );
  }
  const [template, imageProcessor] = await Promise.all([
    loadChatTemplate(folder, tokenizer),
    loadImageProcessor(folder),
  ]);
  return { tokenizer, template, imageProcessor, stopTokens: (await endsOf(folder)) ?? [tokenizer.eosId] };
}

/** The stop tokens of `generation_config.json`; null when it is not there or names none. */
async function endsOf(folder: string): Promise<readonly number[] | null> {
  const path = join(folder, "generation_config.json");
  const isThere = await stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== "ENOENT",
  );
  if (!isThere) return null;
  const parsed = generationConfig.safeParse(await readJson(path));
  if (!parsed.success) throw new WeightsError(`${path}: ${z.prettifyError(parsed.error).slice(0, 2000)}`);
  const ends = parsed.data.eos_token_id;
  return typeof ends === "number" ? [ends] : (ends ?? null);
}
