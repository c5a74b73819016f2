/** `rot-cli generate`: answers of a vision-language model. */
import { join } from "node:path";
import {
  ask,
  buildModel,
  type Chat,
  checkContext,
  describeModel,
  type Description,
  encodeConversation,
  type FloatDType,
  generateText,
  type GenerateTextOptions,
  type Image,
  type Preset,
  presets,
  type Pretrained,
  type Prompt,
  randomInit,
  visionTokens,
} from "@rot/models";
import { fromPretrained, loadAdapter, loadImage, openChat, readJson } from "@rot/models/node";
import { type Device, openDevice, UsageError } from "@rot/tensor";
import { Command, InvalidArgumentError, Option } from "commander";
import { ExitError, exitCodes } from "../exit-codes.ts";
import { AnswerBuilder, printable } from "../generate/answer.ts";
import { readRequests, type Request, type RequestFlags } from "../generate/requests.ts";
import { progress } from "../progress.ts";
import type { Output } from "../program.ts";

interface Flags extends RequestFlags {
  readonly model: string;
  readonly randomInit?: Preset;
  readonly adapterDir?: string;
  readonly dtype?: FloatDType;
  readonly adapter?: string;
  readonly max_new_tokens: number;
  readonly temperature: number;
  readonly top_k: number;
  readonly top_p: number;
  readonly seed: number;
  readonly stop?: readonly string[];
  readonly batch_size: number;
  readonly logprobs?: number;
  readonly json?: boolean;
}

/** The command. Answers go to stdout as they are made; how fast that was, to stderr. */
export function generate(output: Output): Command {
  return new Command("generate")
    .description("answer prompts, with pictures or without, by a Qwen3-VL checkpoint")
    .requiredOption("--model <folder>", "the checkpoint: config.json, safetensors, tokenizer, chat template, processor")
    .option("--prompt <text>", "what to ask")
    .option("--image <file...>", "PNG or JPEG files, which stand before the prompt")
    .option("--system <text>", "a system message")
    .option("--batch <file>", "many prompts: one a line, or of a .jsonl file objects {prompt, images, system}")
    .option("--batch_size <count>", "prompts that are answered at once", whole(1), 8)
    .option("--max_new_tokens <count>", "tokens of an answer at most", whole(1), 256)
    .option("--temperature <number>", "0 takes the likeliest token", decimal(Infinity), 0)
    .option("--top_k <count>", "draw only among so many of the likeliest tokens; 0 is all", whole(0), 0)
    .option("--top_p <share>", "draw only among the likeliest tokens of this share; 1 is all", decimal(1), 1)
    .option("--seed <number>", "the same seed gives the same answers, whatever the batch size", whole(0), 0)
    .option("--stop <text...>", "end an answer before this text")
    .option("--adapter-dir <folder>", "a PEFT adapter to put on the model")
    .addOption(
      new Option("--dtype <name>", "keep the weights in it; by default as they are stored").choices([
        "f32",
        "f16",
        "bf16",
      ]),
    )
    .addOption(
      new Option(
        "--random-init <preset>",
        "random weights of this size, to measure without a checkpoint; --model then only gives the tokenizer",
      ).choices(Object.keys(presets)),
    )
    .option("--adapter <name>", "part of a GPU adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
    .option(
      "--logprobs <count>",
      "with --json: log-probabilities of each token and of so many of the likeliest",
      whole(0),
    )
    .option("--json", "print one JSON object a prompt")
    .addHelpText(
      "after",
      '\nExamples:\n  rot-cli generate --model Qwen3-VL-2B-Instruct --prompt "What is this?" --image a.png\n' +
        "  rot-cli generate --model Qwen3-VL-2B-Instruct --batch questions.jsonl --temperature 0.7 --top_p 0.8 --json\n",
    )
    .action(async (flags: Flags) => {
      if (flags.logprobs !== undefined && !flags.json) throw new UsageError("--logprobs needs --json");
      await run(flags, output);
    });
}

function whole(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || !Number.isSafeInteger(number) || number < least) {
      throw new InvalidArgumentError(`It is a whole number from ${least} up.`);
    }
    return number;
  };
}

function decimal(most: number): (value: string) => number {
  return (value) => {
    if (!/^\d*\.?\d+$/.test(value) || Number(value) > most) {
      throw new InvalidArgumentError(
        most === Infinity ? "It is a number from 0 up." : `It is a number from 0 to ${most}.`,
      );
    }
    return Number(value);
  };
}

async function run(flags: Flags, output: Output): Promise<void> {
  const requests = await readRequests(flags);
  const { description, chat } = await open(flags);
  // Everything that can be wrong with the first batch shows before the weights are read.
  let prompts = await encode(requests.slice(0, flags.batch_size), chat, description);
  const device = await openDevice({ adapter: flags.adapter });
  try {
    const { model } = await load(description, flags, device, output);
    for (let at = 0; at < requests.length; at += flags.batch_size) {
      const batch = requests.slice(at, at + flags.batch_size);
      if (at > 0) prompts = await encode(batch, chat, description);
      const begun = performance.now();
      const builders = batch.map((request, i) => new AnswerBuilder(request, prompts[i]?.ids.length ?? 0, begun));
      const options = generateOptions(
        flags,
        batch.map((_, i) => at + i),
      );
      for await (const token of generateText(model, chat, prompts, options)) {
        builders[token.sequence]?.push(token);
        if (!flags.json && requests.length === 1) output.out(printable(token.text));
      }
      print(builders, { chat, flags, output, at, single: requests.length === 1 });
    }
  } finally {
    device.destroy();
  }
}

/** What there is to know of the model before its weights are there. */
async function open({ model, randomInit: preset }: Flags): Promise<{ description: Description; chat: Chat }> {
  if (preset === undefined) {
    const file = join(model, "config.json");
    const description = describeModel(await readJson(file), file);
    return { description, chat: await openChat(model, description.config) };
  }
  const chat = await openChat(model);
  const { imagePad, videoPad } = visionTokens;
  const ids = { image_token_id: chat.tokenizer.id(imagePad), video_token_id: chat.tokenizer.id(videoPad) };
  return { description: describeModel({ ...presets[preset], ...ids }), chat };
}

async function encode(batch: readonly Request[], chat: Chat, { config }: Description): Promise<Prompt[]> {
  const prompts: Prompt[] = [];
  for (const { prompt, images: files, system } of batch) {
    const images: Image[] = [];
    for (const file of files) images.push(await picture(file, chat));
    const encoded = encodeConversation(chat, ask(prompt, { images, ...(system !== undefined && { system }) }));
    checkContext(config.text, encoded.ids.length, "the prompt");
    prompts.push(encoded);
  }
  return prompts;
}

/** A picture that the image processor takes. Its errors name the file. */
async function picture(file: string, { imageProcessor }: Chat): Promise<Image> {
  try {
    const image = await loadImage(file);
    imageProcessor.targetSize(image);
    return image;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new ExitError(message.includes(file) ? message : `${file}: ${message}`, exitCodes.badInput);
  }
}

async function load(description: Description, flags: Flags, device: Device, output: Output): Promise<Pretrained> {
  const { model: folder, randomInit: preset, adapterDir, dtype, seed } = flags;
  if (preset !== undefined) {
    const { architecture } = description;
    const lora = adapterDir === undefined ? null : await loadAdapter(adapterDir, architecture.linears, device);
    const weights = randomInit(architecture, device, { seed, ...(dtype && { dtype }) });
    return buildModel(description, weights, device, lora);
  }
  const report = progress(output, { label: "load", unit: "bytes" });
  const loaded = await fromPretrained(folder, device, {
    ...(dtype && { dtype }),
    ...(adapterDir !== undefined && { adapter: adapterDir }),
    onProgress: (done, total) => report.update({ done, total }),
  });
  report.finish();
  return loaded;
}

const generateOptions = (flags: Flags, samples: readonly number[]): GenerateTextOptions => ({
  maxNewTokens: flags.max_new_tokens,
  temperature: flags.temperature,
  topK: flags.top_k,
  topP: flags.top_p,
  seed: flags.seed,
  samples,
  stopStrings: flags.stop ?? [],
  ...(flags.logprobs !== undefined && { logProbs: flags.logprobs }),
});

interface Printing {
  readonly chat: Chat;
  readonly flags: Flags;
  readonly output: Output;
  /** The number of the batch's first request. */
  readonly at: number;
  readonly single: boolean;
}

/** Prints the answers of a batch, or ends the line of the one that was printed as it was made. */
function print(builders: readonly AnswerBuilder[], { chat, flags, output, at, single }: Printing): void {
  const answers = builders.map((builder) => builder.answer(chat));
  for (const [i, answer] of answers.entries()) {
    if (flags.json) output.out(`${JSON.stringify(answer)}\n`);
    else if (single) output.out("\n");
    else output.out(`[${at + i + 1}] ${printable(answer.text)}\n`);
  }
  const count = answers.reduce((sum, { ids }) => sum + ids.length, 0);
  const first = Math.min(...answers.map(({ secondsToFirstToken }) => secondsToFirstToken));
  const rate = answers.reduce((sum, { tokensPerSecond }) => sum + (tokensPerSecond ?? 0), 0);
  output.err(
    `${count} tokens, the first after ${first.toFixed(2)} s${rate > 0 ? `, then ${rate.toPrecision(3)} tokens/s` : ""}\n`,
  );
}
