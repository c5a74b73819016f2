/** `rot-cli generate --interactive`: questions line by line, each answered by itself. */
import { createInterface, type Interface } from "node:readline";
import type { GenerateTextOptions } from "@rot/models";
import { UsageError } from "@rot/tensor";
import { ExitError, exitCodeOf, exitCodes } from "../exit-codes.ts";
import type { Input, Output } from "../program.ts";
import { printable } from "./answer.ts";
import { answerRequests, type Thinker } from "./thinker.ts";
import { checkThoughtFile, thoughtLines, type Told, writeThoughts } from "./thought.ts";

/** How a session begins. */
export interface Session {
  readonly options: GenerateTextOptions;
  readonly json: boolean;
  /** On a terminal they are shown in any case. */
  readonly showLatents: string | boolean | undefined;
}

/** Answers that `/save` and `--show-latents FILE` still have. */
const REMEMBERED = 200;

const help = `  /seed N     draw from another seed (it needs a --temperature)
  /latents N  think in so many latents; /latents own: in as many as the checkpoint says
  /save FILE  write the latents so far as a page, FILE.html, or a picture, FILE.png
  /exit       end, like Ctrl-D; Ctrl-C ends an answer
Every question is answered by itself: the model was not trained on conversations.
`;

/**
 * Asks and answers until the input ends or `/exit` comes. From a pipe every line is a question, and stdout has the answers
 * alone.
 *
 * @throws {ExitError} when the questions of a pipe could not all be answered
 */
export async function interact(given: Thinker, session: Session, output: Output, input: Input): Promise<void> {
  const terminal = input.isTTY === true && output.terminal;
  const lines = createInterface({
    input,
    ...(terminal && { output: process.stderr, removeHistoryDuplicates: true }),
    terminal,
    prompt: "? ",
  });
  const talk = new Talk(given, session, output, terminal);
  lines.on("SIGINT", () => {
    if (talk.interrupt()) return;
    if (lines.line === "") output.err("\nCtrl-D or /exit ends\n");
    lines.write(null, { ctrl: true, name: "u" });
    lines.prompt();
  });
  if (terminal) output.err(`${given.bundle.path}\n/help for the commands, Ctrl-D ends\n`);
  try {
    await readLines(lines, talk, terminal);
  } finally {
    lines.close();
  }
  if (terminal) output.err("\n");
  await talk.end();
}

async function readLines(lines: Interface, talk: Talk, terminal: boolean): Promise<void> {
  if (terminal) lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/exit" || text === "/quit") return;
    if (text !== "") await talk.hear(text);
    if (terminal) lines.prompt();
  }
}

class Talk {
  #thinker: Thinker;
  #options: GenerateTextOptions;
  readonly #session: Session;
  readonly #output: Output;
  readonly #terminal: boolean;
  readonly #told: Told[] = [];
  #answering: AbortController | null = null;
  #failed = 0;

  constructor(thinker: Thinker, session: Session, output: Output, terminal: boolean) {
    this.#thinker = thinker;
    this.#options = session.options;
    this.#session = session;
    this.#output = output;
    this.#terminal = terminal;
  }

  /** Ends the answer that is being made; false when there is none. */
  interrupt(): boolean {
    this.#answering?.abort();
    return this.#answering !== null;
  }

  async hear(text: string): Promise<void> {
    try {
      if (text.startsWith("/")) await this.#obey(text);
      else await this.#answer(text);
    } catch (error) {
      // What is wrong with a question or a command ends neither the session nor the pipe.
      const code = exitCodeOf(error);
      if (code !== exitCodes.usage && code !== exitCodes.badInput && code !== exitCodes.numeric) throw error;
      const { message } = error as Error;
      this.#failed++;
      if (this.#terminal) this.#output.err(`${message}\n`);
      else
        this.#output.out(
          `${this.#session.json ? JSON.stringify({ prompt: text, error: message }) : `ERROR: ${message}`}\n`,
        );
    }
  }

  async end(): Promise<void> {
    const { showLatents } = this.#session;
    if (typeof showLatents === "string") await this.#save(showLatents);
    if (this.#failed > 0 && !this.#terminal) {
      throw new ExitError(
        `${this.#failed} ${this.#failed === 1 ? "line" : "lines"} could not be answered; ERROR stands where the answer would`,
        exitCodes.badInput,
      );
    }
  }

  async #answer(prompt: string): Promise<void> {
    const { json, showLatents } = this.#session;
    const look = (this.#terminal || showLatents !== undefined) && this.#thinker.subject.latents !== null;
    const answering = new AbortController();
    this.#answering = answering;
    try {
      const { answers, told } = await answerRequests(this.#thinker, [{ prompt, images: [] }], {
        options: this.#options,
        look,
        signal: answering.signal,
        onThoughts: ([latents = []], seconds) => this.#output.err(thoughtLines(latents, seconds)),
        ...(!json && { onText: (text) => this.#output.out(printable(text)) }),
      });
      this.#told.push(...told);
      if (this.#told.length > REMEMBERED) this.#told.shift();
      this.#output.out(json ? `${JSON.stringify(answers[0])}\n` : "\n");
    } finally {
      this.#answering = null;
    }
    if (answering.signal.aborted) this.#output.err("ended before its end\n");
  }

  async #obey(text: string): Promise<void> {
    const [command = "", ...rest] = text.split(/\s+/);
    const argument = rest.join(" ");
    if (command === "/help") this.#output.err(help);
    else if (command === "/seed") {
      this.#options = { ...this.#options, seed: wholeNumber(command, argument) };
    } else if (command === "/latents") this.#setLatents(argument);
    else if (command === "/save") {
      checkThoughtFile(argument);
      await this.#save(argument);
    } else throw new UsageError(`there is no ${command}; /help shows the commands`);
  }

  #setLatents(argument: string): void {
    const { subject, bundle } = this.#thinker;
    const own = bundle.config.latents;
    if (!subject.latents || !own) throw new UsageError("/latents: this model answers in text");
    const policy = argument === "own" ? own : { budget: wholeNumber("/latents", argument) };
    this.#thinker = { ...this.#thinker, subject: { ...subject, latents: { ...subject.latents, policy } } };
  }

  async #save(file: string): Promise<void> {
    await writeThoughts(file, this.#told, this.#thinker.bundle.path);
    this.#output.err(`${this.#told.length} questions are in ${file}\n`);
  }
}

function wholeNumber(command: string, argument: string): number {
  if (/^\d{1,9}$/.test(argument)) return Number(argument);
  throw new UsageError(`${command} takes a whole number, as in ${command} 3`);
}
