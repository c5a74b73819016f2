/** Evaluation: a model's answers to samples, from its own latents and from others, as scored rows. */
import { UsageError } from "@rot/tensor";
import type { Sample } from "../data/sample.ts";
import { latentsAtMost } from "../methods/rot/generate.ts";
import { Answerer, type Answered } from "./answerer.ts";
import { checkAnswer } from "./answers.ts";
import type { EvaluateOptions, Measured, Subject } from "./options.ts";
import type { Row } from "./rows.ts";

/**
 * Answers samples, a batch after another.
 *
 * An answer depends on its sample, the seed and the options, not on what else is in the batch or was done before. Samples
 * that cannot be answered have rows too, which count as wrong.
 *
 * @returns  for each sample of a batch its rows: every seed of every arm
 * @throws {UsageError} when an arm or a number of seeds makes no sense here
 * @throws {DeviceError} whatever goes wrong on the device
 */
export async function* evaluate(
  subject: Subject,
  samples: readonly Sample[],
  options: EvaluateOptions,
): AsyncGenerator<readonly Row[], void, undefined> {
  checkEvaluation(subject, samples, options);
  const answerer = new Answerer(subject, samples, options);
  try {
    const left = [...samples.keys()].filter((i) => !options.done?.has((samples[i] as Sample).id));
    if (left.length > 0) await answerer.prepare();
    for (let at = 0; at < left.length; at += options.batchSize) {
      const batch = left.slice(at, at + options.batchSize);
      const answers = await answerer.answers(batch);
      yield batch.flatMap((i) => rowsOf(subject, samples[i] as Sample, answers.get(i) ?? [], options));
    }
  } finally {
    answerer.dispose();
  }
}

/**
 * What {@link evaluate} looks at first.
 *
 * @throws {UsageError} when an arm or a number of seeds makes no sense here
 */
export function checkEvaluation(
  { latents }: Subject,
  samples: readonly Sample[],
  { arms, seeds, temperature }: EvaluateOptions,
): void {
  if (arms.length === 0 || seeds.length === 0) throw new UsageError("evaluate: there is no arm or no seed");
  if (!latents && arms.some((arm) => arm !== "own")) {
    throw new UsageError("evaluate: this model has no latents, so there is nothing to ablate: only the arm own");
  }
  if (arms.includes("other") && samples.length < 2) {
    throw new UsageError("evaluate: with one sample there is no other question whose latents it could get");
  }
  if (seeds.length > 1 && temperature === 0) {
    throw new UsageError("evaluate: at temperature 0 every seed gives the same answers; set --temperature or one seed");
  }
  if (latents) latentsAtMost(latents.policy);
}

/** The rows of a sample from its answers, or from the reason why there are none. */
function rowsOf(
  subject: Subject,
  sample: Sample,
  answers: readonly Answered[] | string,
  options: EvaluateOptions,
): Row[] {
  const { arms, seeds, measure } = options;
  const chain = sample.cot === "" ? null : (measure?.(sample.cot) ?? null);
  const row = (answer: Said): Row => rowOf(subject, sample, chain, answer, options.rule);
  if (typeof answers !== "string") return answers.map((answer) => row(answer));
  const nothing = { ids: [], finish: "error", latents: null, seconds: 0, error: answers } as const;
  return arms.flatMap((arm) => seeds.map((seed) => row({ ...nothing, arm, seed })));
}

/** An answer, or that there is none and why. */
type Said = Omit<Answered, "finish" | "latents"> & Pick<Row, "finish" | "latents"> & { readonly error?: string };

function rowOf(
  { tokenizer, latents: thinks }: Subject,
  sample: Sample,
  chain: Measured | null,
  answer: Said,
  rule: EvaluateOptions["rule"],
): Row {
  const { arm, seed, ids, latents, finish, seconds, error } = answer;
  const text = tokenizer.decode(ids, { skipSpecialTokens: true });
  const verdict =
    rule && (error === undefined ? checkAnswer(text, sample.answer, rule) : { predicted: null, correct: false });
  return {
    id: sample.id,
    arm,
    seed,
    question: sample.question,
    cot: sample.cot,
    ground_truth: sample.answer,
    prediction: error === undefined ? text : `ERROR: ${error}`,
    ...(verdict && { predicted_answer: verdict.predicted, is_correct: verdict.correct }),
    latents,
    reasoning: thinks ? "latents" : "text",
    tokens: ids.length,
    finish,
    seconds,
    compression_ratio: chain && chain.tokens / chain.latents,
    used_ratio: chain && thinks && latents ? chain.tokens / latents : null,
  };
}
