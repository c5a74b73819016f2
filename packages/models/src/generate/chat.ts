/** Conversations with pictures in, text out: the layer over tokens. Files are opened by `openChat` of `@rot/models/node`. */
import { UsageError } from "@rot/tensor";
import type { ChatTemplate, ContentPart, Message } from "../chat-template/chat-template.ts";
import type { Image } from "../image-processor/image.ts";
import { expandImagePads, type ImageProcessor } from "../image-processor/image-processor.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { visionTokens } from "../tokenizer/tokenizer.ts";
import type { VisionLanguageModel } from "../vision-language-model.ts";
import { decode, generate, type GenerateOptions, type GeneratedToken, type StopRule } from "./generate.ts";
import type { Prefilled, Prompt } from "./prefill.ts";
import { StopStrings } from "./stop-strings.ts";

/** What turns conversations into prompts, and tokens into text. */
export interface Chat {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly imageProcessor: ImageProcessor;
  /** The tokens that end an answer. */
  readonly stopTokens: readonly number[];
}

/** Messages, and the pictures that stand at their image parts, in order. */
export interface Conversation {
  readonly messages: readonly Message[];
  readonly images?: readonly Image[];
}

/** How {@link generateText} chooses and stops: at the chat's stop tokens, and at `stopStrings`, which are left out. */
export interface GenerateTextOptions extends Omit<GenerateOptions, "stop"> {
  readonly stopStrings?: readonly string[];
}

/** A token and what it adds to the text of its sequence. */
export interface GeneratedText extends GeneratedToken {
  /** "" while a character, or what may be a stop string, is incomplete. All of them joined are the whole text. */
  readonly text: string;
}

/** A question with pictures before it, as users ask. */
export function ask(
  question: string,
  { images = [], system }: { images?: readonly Image[]; system?: string } = {},
): Conversation {
  const pictures = images.map((): ContentPart => ({ type: "image" }));
  const content: ContentPart[] = [...pictures, { type: "text", text: question }];
  const first: Message[] = system === undefined ? [] : [{ role: "system", content: system }];
  return { messages: [...first, { role: "user", content }], images };
}

/**
 * The tokens and pixels of a conversation, up to where the model's answer begins.
 *
 * @throws {TemplateError} when the template refuses the messages
 * @throws {ImageError} when a picture is none, is more than 200 times as long as wide, or there are not as many as the
 *   messages have places for
 */
export function encodeConversation(chat: Chat, { messages, images = [] }: Conversation): Prompt {
  const { tokenizer, template, imageProcessor } = chat;
  const ids = tokenizer.encode(template.render(messages, { addGenerationPrompt: true }));
  const pixels = imageProcessor.process(images);
  const counts = pixels.imageGridThw.map((grid) => imageProcessor.tokens(grid));
  return { ids: expandImagePads(ids, tokenizer.id(visionTokens.imagePad), counts), images: pixels };
}

/**
 * Answers prompts, all at once, and gives each token with its text as soon as it is known. Special tokens are left out of
 * the text.
 *
 * @see generate for the errors
 */
export async function* generateText(
  model: VisionLanguageModel,
  chat: Pick<Chat, "tokenizer" | "stopTokens">,
  prompts: readonly Prompt[],
  { stopStrings = [], ...options }: GenerateTextOptions,
): AsyncGenerator<GeneratedText, void, undefined> {
  yield* withText(chat, prompts.length, stopStrings, (stop) => generate(model, prompts, { ...options, stop }));
}

/**
 * Goes on with sequences that are in a cache already, as {@link generateText} does.
 *
 * @see decode for what becomes of the cache, and for the errors
 */
export async function* decodeText(
  model: VisionLanguageModel,
  chat: Pick<Chat, "tokenizer" | "stopTokens">,
  prefilled: Prefilled,
  { stopStrings = [], ...options }: GenerateTextOptions,
): AsyncGenerator<GeneratedText, void, undefined> {
  const { sequences } = prefilled.cache;
  yield* withText(chat, sequences, stopStrings, (stop) => decode(model, prefilled, { ...options, stop }));
}

/** Tokens with their texts, from a generator that is told where each sequence ends. */
async function* withText(
  { tokenizer, stopTokens }: Pick<Chat, "tokenizer" | "stopTokens">,
  sequences: number,
  stopStrings: readonly string[],
  generator: (stop: StopRule) => AsyncIterable<GeneratedToken>,
): AsyncGenerator<GeneratedText, void, undefined> {
  if (stopStrings.includes("")) throw new UsageError("generateText: a stop string is empty");
  const readers = Array.from({ length: sequences }, () => ({
    stream: tokenizer.stream({ skipSpecialTokens: true }),
    stops: new StopStrings(stopStrings),
    text: "",
  }));
  const stop = (id: number, sequence: number): boolean => {
    const reader = readers[sequence] as (typeof readers)[0];
    reader.text = reader.stops.push(reader.stream.push(id));
    return reader.stops.isStopped || stopTokens.includes(id);
  };
  for await (const token of generator(stop)) {
    const { stream, stops, text } = readers[token.sequence] as (typeof readers)[0];
    const rest = token.finish === null ? "" : stops.push(stream.end()) + stops.end();
    yield { ...token, text: text + rest };
  }
}
