/** `rot-cli generate`: answers of a checkpoint that thinks in latents, or of a plain vision-language model. */
import { join } from "node:path";
import {
  ask,
  buildModel,
  type Chat,
  checkContext,
  describeModel,
  type Description,
  encodeConversation,
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
import { checkModelFolder } from "@rot/rot/node";
import { type Device, openDevice, UsageError } from "@rot/tensor";
import { Command, Option } from "commander";
import { ExitError, exitCodes } from "../exit-codes.ts";
import { adapterFlag, decimal, pathOf, subjectOptions, whole } from "../flags.ts";
import { type Answer, AnswerBuilder, printable } from "../generate/answer.ts";
import { interact } from "../generate/interactive.ts";
import { readRequests, type Request, type RequestFlags } from "../generate/requests.ts";
import { answerRequests, meansThinker, openThinker, type ThinkerFlags } from "../generate/thinker.ts";
import { thoughtLines, type Told, writeThoughts } from "../generate/thought.ts";
import { progress } from "../progress.ts";
import type { Input, Output } from "../program.ts";
import { tuneFirst } from "../tuning.ts";
import { answerSamples } from "./evaluate.ts";

interface Flags extends RequestFlags, ThinkerFlags {
  readonly randomInit?: Preset;
  readonly image?: readonly string[];
  readonly system?: string;
  readonly interactive?: boolean;
  readonly chain?: string;
  readonly data_file?: string;
  readonly dataset?: string;
  readonly split: string;
  readonly max_samples?: number;
  readonly output_file?: string;
  readonly output_format: "json" | "jsonl";
  readonly resume?: boolean;
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

/** The flags of a plain model. */
type PlainFlags = Flags & { readonly model: string };

/** The command. Answers go to stdout as they are made; how fast that was, to stderr. */
export function generate(output: Output, input: Input): Command {
  return subjectOptions(new Command("generate"))
    .description(
      "answer prompts: by a checkpoint, which thinks in latents first, or by a plain Qwen3-VL folder, with pictures or without",
    )
    .option("--prompt <text>", "what to ask")
    .option("--batch <file>", "many prompts: one a line, or of a .jsonl file objects {prompt, images, system}")
    .option("--interactive", "ask line by line; from a pipe every line is a question")
    .option(
      "--show-latents [file]",
      "what can be read out of the latents, on stderr: the length of each, the token that the model would have written instead, the nearest token, and what the embedded model's base reads; FILE.html or FILE.png also shows their numbers as colors. A latent is a vector, no picture",
    )
    .option(
      "--chain <text>",
      "with --prompt and --show-latents: what was to be thought; it is drawn and seen as in training, and each latent is compared with its cells",
    )
    .option("--batch_size <count>", "prompts that are answered at once", whole(1), 8)
    .option("--max_new_tokens <count>", "tokens of an answer at most", whole(1), 256)
    .option("--temperature <number>", "0 takes the likeliest token", decimal(Infinity), 0)
    .option("--top_k <count>", "draw only among so many of the likeliest tokens; 0 is all", whole(0), 0)
    .option("--top_p <share>", "draw only among the likeliest tokens of this share; 1 is all", decimal(1), 1)
    .option("--seed <number>", "the same seed gives the same answers, whatever the batch size", whole(0), 0)
    .option("--stop <text...>", "end an answer before this text")
    .option("--image <file...>", "PNG or JPEG files, which stand before the prompt of a plain model")
    .option("--system <text>", "a system message for a plain model")
    .option("--adapter-dir <folder>", "a PEFT adapter to put on a plain model")
    .addOption(
      new Option(
        "--random-init <preset>",
        "random weights of this size, to measure without a checkpoint; --model then only gives the tokenizer",
      ).choices(Object.keys(presets)),
    )
    .option(
      "--data_file <file>",
      "answer the rows of a file, as rot-cli evaluate --mode generate does; wins over --dataset",
    )
    .option("--dataset <name>", "answer a dataset: its name, a file, synthetic, or tiny")
    .addOption(new Option("--split <name>", "which part of the dataset").choices(["train", "test"]).default("test"))
    .option("--max_samples <rows>", "of a dataset only the first so many", whole(1))
    .option("--output_file <file>", "of a dataset; by default outputs/results/DATA_CHECKPOINT_results.FORMAT")
    .addOption(
      new Option("--output_format <name>", "of a dataset; either has all rows")
        .choices(["json", "jsonl"])
        .default("json"),
    )
    .option("--resume", "of a dataset: go on with what the output file has")
    .addOption(new Option("--mode <name>", "accepted, and always generate").choices(["generate"]))
    .option(...adapterFlag)
    .option(
      "--logprobs <count>",
      "with --json: log-probabilities of each token and of so many of the likeliest",
      whole(0),
    )
    .option("--json", "print one JSON object a prompt")
    .addHelpText("after", help)
    .action(async (flags: Flags) => {
      if (flags.logprobs !== undefined && !flags.json) throw new UsageError("--logprobs needs --json");
      if (flags.chain !== undefined && (flags.prompt === undefined || flags.showLatents === undefined)) {
        throw new UsageError(
          "--chain needs --prompt and --show-latents: it is what the latents of one question are compared with",
        );
      }
      await run(flags, output, input);
    });
}

const help = `
Examples:
  rot-cli generate --checkpoint runs/first --prompt "Ada has 3 apples and buys 4. How many has she?" --show-latents
  rot-cli generate --checkpoint runs/20261121-tiny-rot --interactive
  rot-cli generate --checkpoint runs/first --batch questions.txt --num_vision_tokens 32 --json --show-latents l.html
  rot-cli generate --model Qwen3-VL-2B-Instruct --prompt "What is this?" --image a.png
  rot-cli generate --model Qwen3-VL-2B-Instruct --batch questions.jsonl --temperature 0.7 --top_p 0.8 --json
`;

async function run(flags: Flags, output: Output, input: Input): Promise<void> {
  const path = pathOf(flags);
  if (flags.data_file !== undefined || flags.dataset !== undefined) return answerDataset(flags, output);
  if (flags.interactive) return talk(flags, output, input);
  if (await meansThinker(flags)) return think(flags, output);
  const idle = thinking.filter((name) => flags[name] !== undefined);
  if (idle.length > 0) {
    throw new UsageError(
      `${idle.map((name) => `--${name === "showLatents" ? "show-latents" : name}`).join(", ")}: ${path} is a plain model, which answers in text; this is for --checkpoint`,
    );
  }
  await answerPlain({ ...flags, model: path }, output);
}

/** Flags that only mean something to latents. */
const thinking = ["num_vision_tokens", "dynamic", "stop_threshold", "stage1_checkpoint", "showLatents"] as const;

/** The rows of a dataset go to a file. */
async function answerDataset(flags: Flags, output: Output): Promise<void> {
  const { prompt, batch, interactive, stop, logprobs, showLatents, top_k, image, system, ...rest } = flags;
  const given = { prompt, batch, interactive, stop, logprobs, "show-latents": showLatents, image, system };
  const idle = Object.entries({ ...given, ...(top_k > 0 && { top_k }) }).filter(([, value]) => value !== undefined);
  if (idle.length > 0) {
    throw new UsageError(
      `${idle.map(([name]) => `--${name}`).join(", ")}: not with a dataset; leave out --data_file and --dataset, or this`,
    );
  }
  const evaluation = { mode: "generate", answers: "robust", ablate: [], seeds: 1, onBadRow: "fail" } as const;
  await answerSamples({ ...rest, ...evaluation }, output);
}

async function talk(flags: Flags, output: Output, input: Input): Promise<void> {
  if (flags.prompt !== undefined || flags.batch !== undefined) {
    throw new UsageError("--interactive asks for the questions itself: leave --prompt and --batch out");
  }
  const thinker = await openThinker(flags, output);
  const { json = false, showLatents } = flags;
  try {
    await interact(thinker, { options: generateOptions(flags), json, showLatents }, output, input);
  } finally {
    thinker.device.destroy();
  }
}

/** Prompts for a checkpoint. */
async function think(flags: Flags, output: Output): Promise<void> {
  const { showLatents, batch_size: size, json } = flags;
  const requests = await readRequests(flags);
  const thinker = await openThinker(flags, output);
  const tuned = tuneFirst(thinker.device, "the first answer", output);
  const single = requests.length === 1;
  const all: Told[] = [];
  try {
    for (let at = 0; at < requests.length; at += size) {
      const batch = requests.slice(at, at + size);
      const { answers, told } = await answerRequests(thinker, batch, {
        options: generateOptions(
          flags,
          batch.map((_, i) => at + i),
        ),
        look: showLatents !== undefined,
        chain: flags.chain,
        onThoughts(latents, seconds) {
          for (const [i, own] of latents.entries()) {
            output.err(`${single ? "" : `[${at + i + 1}]\n`}${thoughtLines(own, seconds)}`);
          }
        },
        ...(!json && single && { onText: (text) => output.out(printable(text)) }),
      });
      all.push(...told);
      print(answers, { flags, output, at, single });
      await tuned();
    }
    if (typeof showLatents === "string") {
      await writeThoughts(showLatents, all, thinker.bundle.path);
      output.err(`the latents are in ${showLatents}\n`);
    }
  } finally {
    thinker.device.destroy();
  }
}

async function answerPlain(flags: PlainFlags, output: Output): Promise<void> {
  const requests = await readRequests(flags);
  const { description, chat } = await open(flags);
  // Everything that can be wrong with the first batch shows before the weights are read.
  let prompts = await encode(requests.slice(0, flags.batch_size), chat, description);
  const device = await openDevice({ adapter: flags.adapter });
  try {
    const { model } = await load(description, flags, device, output);
    const tuned = tuneFirst(device, "the first answer", output);
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
      const answers = builders.map((builder) => builder.answer(chat));
      print(answers, { flags, output, at, single: requests.length === 1 });
      await tuned();
    }
  } finally {
    device.destroy();
  }
}

/** What there is to know of the model before its weights are there. */
async function open({ model, randomInit: preset }: PlainFlags): Promise<{ description: Description; chat: Chat }> {
  if (preset === undefined) {
    await checkModelFolder(model);
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

async function load(description: Description, flags: PlainFlags, device: Device, output: Output): Promise<Pretrained> {
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

const generateOptions = (flags: Flags, samples: readonly number[] = [0]): GenerateTextOptions => ({
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
  readonly flags: Flags;
  readonly output: Output;
  /** The number of the batch's first request. */
  readonly at: number;
  readonly single: boolean;
}

/** Prints the answers of a batch, or ends the line of the one that was printed as it was made. */
function print(answers: readonly Answer[], { flags, output, at, single }: Printing): void {
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
