/** How many questions are answered right while training goes on. */
import type { Sample } from "../data/sample.ts";
import { evaluate } from "../evaluate/evaluate.ts";
import type { EvaluateOptions, Subject } from "../evaluate/options.ts";

/**
 * The part of samples that is answered right from own latents, by the likeliest tokens: what `evaluate` finds in a
 * checkpoint of these parameters. Samples that cannot be answered count as wrong.
 *
 * @throws the signal's reason when it ends the work
 */
export async function accuracy(
  subject: Subject,
  samples: readonly Sample[],
  options: Pick<EvaluateOptions, "batchSize" | "maxNewTokens">,
  signal?: AbortSignal,
): Promise<number> {
  const greedy = { arms: ["own"], seeds: [0], temperature: 0, topP: 1, rule: "robust" } as const;
  let correct = 0;
  for await (const rows of evaluate(subject, samples, { ...options, ...greedy })) {
    signal?.throwIfAborted();
    correct += rows.filter((row) => row.is_correct).length;
  }
  return correct / samples.length;
}
