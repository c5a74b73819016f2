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

/** What turns text into tokens. */
export interface TextModel {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
}

/** The system message of the published code. */
const SYSTEM = "You are a helpful assistant.";

/**
 * The prompt for a question, up to where the assistant begins.
 *
 * @param variables  what the template is told besides
 */
function promptTokens(
  { tokenizer, template }: TextModel,
  question: string,
  variables: Readonly<Record<string, boolean>> = {},
): number[] {
  const messages = [
    { role: "system", content: SYSTEM },
    { role: "user", content: question },
  ];
  return [...tokenizer.encode(template.render(messages, { addGenerationPrompt: true, variables }))];
}

/** The prompt for a question, up to the marker that latents begin. Thinking in text is switched off, as in the published code. */
export const questionTokens = (text: TextModel, question: string, { begin }: Markers): Int32Array =>
  Int32Array.from([...promptTokens(text, question, { enable_thinking: false }), begin]);

/**
 * A sample of supervised text: the prompt, then what is learnt: the chain as text and the answer, or the answer alone.
 *
 * @param chain  whether the chain is written
 */
export function textSampleTokens(
  text: TextModel,
  { question, cot, answer }: { readonly question: string; readonly cot: string; readonly answer: string },
  chain: boolean,
): { readonly question: Int32Array; readonly answer: Int32Array } {
  const said = `${chain && cot !== "" ? `${cot}\n` : ""}### ${answer}`;
  return {
    question: Int32Array.from(promptTokens(text, question)),
    answer: Int32Array.from([...text.tokenizer.encode(said), text.tokenizer.eosId]),
  };
}

/** The marker that latents end, and the answer. */
export function answerTokens(
  { tokenizer, template }: TextModel,
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
