/** `rot-cli generate` with a checkpoint: latents first, where it has them, then the answer. */
import type { GenerateTextOptions } from "@rot/models";
import { promptOf, type RunConfig, streamAnswers, type Subject } from "@rot/rot";
import { type Bundle, isTiny } from "@rot/rot/node";
import { type Device, openDevice, UsageError } from "@rot/tensor";
import { openSubject, readConfig, type SubjectFlags, warnOfIdleFlags } from "../flags.ts";
import type { Output } from "../program.ts";
import { type Answer, AnswerBuilder } from "./answer.ts";
import type { Request } from "./requests.ts";
import { checkThoughtFile, type DescribedLatent, describeThoughts, thoughtJson, type Told } from "./thought.ts";

/** The flags of generation with a checkpoint. */
export interface ThinkerFlags extends SubjectFlags {
  readonly adapter?: string;
  readonly adapterDir?: string;
  readonly randomInit?: string;
  readonly image?: readonly string[];
  readonly system?: string;
  /** Shows latents on stderr, and in a file where it names one. */
  readonly showLatents?: string | boolean;
}

/** An opened checkpoint. */
export interface Thinker {
  readonly device: Device;
  readonly bundle: Bundle;
  readonly subject: Subject;
}

/** Whether the flags mean a model that is asked in text alone: a checkpoint, or the embedded model. */
export const meansThinker = async ({ checkpoint, model }: SubjectFlags): Promise<boolean> =>
  checkpoint !== undefined || (model !== undefined && (await isTiny(model)));

/**
 * Opens it. The device is the caller's to destroy.
 *
 * @throws {UsageError} for flags that only a plain model reads
 */
export async function openThinker(flags: ThinkerFlags, output: Output): Promise<Thinker> {
  const idle = (["image", "system", "adapterDir", "randomInit"] as const).filter((name) => flags[name] !== undefined);
  if (idle.length > 0) {
    const names = idle.map(
      (name) => ({ adapterDir: "adapter-dir", randomInit: "random-init" })[name as string] ?? name,
    );
    throw new UsageError(
      `${names.map((name) => `--${name}`).join(", ")}: a checkpoint, like the embedded model, is asked in text alone, as it was trained; this is for --model DIR`,
    );
  }
  if (typeof flags.showLatents === "string") checkThoughtFile(flags.showLatents);
  const config: RunConfig | null = await readConfig(flags, output);
  warnOfIdleFlags(flags, output);
  const device = await openDevice({ adapter: flags.adapter });
  try {
    const { bundle, subject } = await openSubject(flags, config, device, output);
    if (flags.showLatents !== undefined && !subject.latents) {
      throw new UsageError(`--show-latents: ${bundle.path} answers in text: it has no latents to show`);
    }
    return { device, bundle, subject };
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** How a batch is answered, and who is told while that is done. */
export interface Asking {
  readonly options: GenerateTextOptions;
  /** Whether the latents are looked at. */
  readonly look: boolean;
  /** What was to be thought, which they are then compared with. */
  readonly chain?: string | undefined;
  readonly onThoughts?: (latents: readonly (readonly DescribedLatent[])[], seconds: number) => void;
  readonly onText?: (text: string) => void;
  /** Ends the answer with the token that is being made. */
  readonly signal?: AbortSignal;
}

/**
 * Thinks and answers.
 *
 * @throws {UsageError} when a request has pictures or a system message
 * @throws {TokenizerError | ContextError | NumericError | DeviceError}
 */
export async function answerRequests(
  { bundle, subject }: Thinker,
  requests: readonly Request[],
  { options, look, chain, onThoughts, onText, signal }: Asking,
): Promise<{ readonly answers: readonly Answer[]; readonly told: readonly Told[] }> {
  for (const { prompt, images, system } of requests) {
    if (images.length === 0 && system === undefined) continue;
    const what = images.length > 0 ? "pictures" : "a system message";
    throw new UsageError(`${JSON.stringify(prompt.slice(0, 60))} has ${what}: a checkpoint is asked in text alone`);
  }
  const begun = performance.now();
  const prompts = requests.map(({ prompt }) => promptOf(subject, prompt));
  const builders = requests.map((request, i) => new AnswerBuilder(request, prompts[i]?.length ?? 0, begun));
  let described: readonly (readonly DescribedLatent[])[] = [];
  for await (const made of streamAnswers(subject, prompts, { ...options, look })) {
    if ("thoughts" in made) {
      const { thoughts } = made;
      if (look) described = await describeThoughts(bundle, subject, thoughts, chain);
      if (subject.latents) {
        for (const [i, builder] of builders.entries()) {
          const latents = described[i];
          builder.think(thoughts.counts[i] as number, thoughts.seconds, latents && thoughtJson(latents));
        }
      }
      if (look) onThoughts?.(described, thoughts.seconds);
    } else {
      builders[made.token.sequence]?.push(made.token);
      onText?.(made.token.text);
    }
    if (signal?.aborted) break;
  }
  const answers = builders.map((builder) => builder.answer(subject));
  const told = requests.map(({ prompt: question }, i) => ({
    question,
    answer: (answers[i] as Answer).text,
    latents: described[i] ?? [],
  }));
  return { answers, told };
}
