/** Questions and answers as token ids. */
import type { ChatTemplate, Tokenizer } from "@rot/models";

/** Ids of the two tokens around the latents. */
export interface Markers {
  readonly begin: number;
  readonly end: number;
}

/**
 * How the answer is written. `explicit`: what an assistant goes on to say, `### 18` and the end of its turn. `reference`: the
 * published form, which templates a lone assistant message and so repeats its header.
 */
export type AnswerStyle = "explicit" | "reference";

/** The system message of the published code. */
const SYSTEM = "You are a helpful assistant.";

/** The prompt for a question, up to the marker that latents begin. */
export function questionTokens(
  { tokenizer, template }: { readonly tokenizer: Tokenizer; readonly template: ChatTemplate },
  question: string,
  { begin }: Markers,
): Int32Array {
  const messages = [
    { role: "system", content: SYSTEM },
    { role: "user", content: question },
  ];
  return Int32Array.from([...tokenizer.encode(template.render(messages, { addGenerationPrompt: true })), begin]);
}

/** The marker that latents end, and the answer. */
export function answerTokens(
  { tokenizer, template }: { readonly tokenizer: Tokenizer; readonly template: ChatTemplate },
  answer: string,
  { end }: Markers,
  style: AnswerStyle = "explicit",
): Int32Array {
  const said =
    style === "reference"
      ? tokenizer.encode(template.render([{ role: "assistant", content: `### ${answer} ` }]))
      : [...tokenizer.encode(`### ${answer}`), tokenizer.eosId];
  return Int32Array.from([end, ...said]);
}
