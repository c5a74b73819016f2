/** Messages to the text a model was trained on: the checkpoint's own Jinja template, run under limits. */

import { Environment, parse, type Program, tokenize } from "@huggingface/jinja";
import { CappedInterpreter } from "./capped-interpreter.ts";
import { TemplateError } from "./error.ts";

/** A piece of a message: text, or the place of a picture or video, whose pixels go another way. */
export type ContentPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly image?: unknown }
  | { readonly type: "video"; readonly video?: unknown };

/** One turn of a conversation. Further fields, such as `tool_calls`, are the template's to read. */
export interface Message {
  readonly role: string;
  readonly content: string | readonly ContentPart[];
  readonly [field: string]: unknown;
}

/** How a conversation is rendered. */
export interface RenderOptions {
  /** End with the head of the assistant's turn, for the model to go on. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** Number pictures and videos: "Picture 1: ". Default false. */
  readonly addVisionId?: boolean;
  /** Whatever else the template reads, by its own names: `tools`, `enable_thinking`, … JSON values. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** The files of a checkpoint that may hold its template, each as read; the first of this order that has one is used. */
export interface TemplateFiles {
  /** `chat_template.jinja`. */
  readonly jinja?: string;
  /** `chat_template.json`. */
  readonly json?: string;
  /** `tokenizer_config.json`. */
  readonly tokenizerConfig?: string;
  /** The folder, for messages. */
  readonly name?: string;
}

/** Ten times the longest template we know of. */
const longest = 2 ** 18;
/** Numbers that `range` may make. */
const mostItems = 10_000;

/**
 * A chat template. Templates are programs from strangers, so each rendering has limits on steps, time, depth and size.
 *
 * @see https://huggingface.co/docs/transformers/chat_templating
 */
export class ChatTemplate {
  readonly #name: string;
  readonly #program: Program;
  readonly #tokens: Readonly<Record<string, string>>;

  /**
   * @param source Jinja
   * @param options.name the file, for messages
   * @param options.tokens what the template sees as `eos_token` and the like
   * @throws {TemplateError} when it is not Jinja, or longer than 262,144 characters
   */
  constructor(source: string, options: { name?: string; tokens?: Readonly<Record<string, string>> } = {}) {
    this.#name = options.name ?? "chat template";
    this.#tokens = options.tokens ?? {};
    this.#program = this.#run(() => {
      if (source.length > longest) throw new TemplateError(`it is longer than ${longest} characters`);
      return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    });
  }

  /**
   * The template of a checkpoint folder.
   *
   * @param tokens as in the constructor
   * @throws {TemplateError} when no file has one
   */
  static fromFiles(files: TemplateFiles, tokens?: Readonly<Record<string, string>>): ChatTemplate {
    const at = files.name === undefined ? "" : `${files.name}/`;
    const options = (name: string) => ({ name: at + name, ...(tokens && { tokens }) });
    if (files.jinja !== undefined) return new ChatTemplate(files.jinja, options("chat_template.jinja"));
    for (const [name, text] of [
      ["chat_template.json", files.json],
      ["tokenizer_config.json", files.tokenizerConfig],
    ] as const) {
      const source = text === undefined ? undefined : inside(text, at + name);
      if (source !== undefined) return new ChatTemplate(source, options(name));
    }
    throw new TemplateError(
      `${at || "the checkpoint"}: no chat template in chat_template.jinja, chat_template.json or tokenizer_config.json`,
    );
  }

  /**
   * The prompt of a conversation.
   *
   * @throws {TemplateError} when the template refuses the messages, fails, or goes beyond a limit: 2,097,152 steps,
   *   5 seconds, 2,097,152 characters
   */
  render(messages: readonly Message[], options: RenderOptions = {}): string {
    const scope = new Environment();
    return this.#run(() => {
      const variables: Record<string, unknown> = {
        ...this.#tokens,
        ...options.variables,
        ...(options.addVisionId !== undefined && { add_vision_id: options.addVisionId }),
        add_generation_prompt: options.addGenerationPrompt ?? false,
        messages,
      };
      for (const [name, value] of Object.entries({ ...globals(), ...variables })) scope.set(name, value);
      return String(new CappedInterpreter(scope).run(this.#program).value);
    });
  }

  #run<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      // The stack's end is a RangeError; the library's own errors are of many kinds.
      throw new TemplateError(`${this.#name}: ${(error as Error).message}`, { cause: error });
    }
  }
}

/** What every template sees. */
function globals(): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    raise_exception: (message: unknown) => {
      throw new TemplateError(String(message));
    },
    strftime_now: (format: unknown) => strftime(new Date(), String(format)),
  };
}

/** Python's `range`, up to 10,000 numbers. */
function range(...bounds: unknown[]): number[] {
  if (bounds.length < 1 || bounds.length > 3 || !bounds.every(Number.isSafeInteger))
    throw new TemplateError("range wants one to three whole numbers");
  const [first, second, step = 1] = bounds as number[];
  const [start, stop] = second === undefined ? [0, first as number] : [first as number, second];
  if (step === 0) throw new TemplateError("the step of range is 0");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > mostItems) throw new TemplateError(`range of ${length} numbers: at most ${mostItems}`);
  return Array.from({ length }, (_, i) => start + i * step);
}

/** The date fields that templates use, in English whatever the machine's language. */
function strftime(date: Date, format: string): string {
  const month = (form: "long" | "short") => date.toLocaleString("en", { month: form });
  const two = (value: number) => String(value).padStart(2, "0");
  const fields: Readonly<Record<string, string>> = {
    "%Y": String(date.getFullYear()),
    "%m": two(date.getMonth() + 1),
    "%d": two(date.getDate()),
    "%b": month("short"),
    "%B": month("long"),
    "%H": two(date.getHours()),
    "%M": two(date.getMinutes()),
    "%S": two(date.getSeconds()),
    "%%": "%",
  };
  return format.replace(/%./g, (field) => fields[field] ?? field);
}

/** The `chat_template` of a JSON file: a text, or of a list of named ones the "default"; undefined when there is none. */
function inside(text: string, file: string): string | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new TemplateError(`${file} is not JSON: ${(error as Error).message}`);
  }
  if (typeof json !== "object" || json === null || !Object.hasOwn(json, "chat_template")) return undefined;
  const found = (json as { chat_template: unknown }).chat_template;
  if (found === null) return undefined;
  const chosen: unknown = Array.isArray(found)
    ? (found.find((one: { name?: unknown } | null) => one?.name === "default") as { template?: unknown } | undefined)
        ?.template
    : found;
  if (typeof chosen !== "string")
    throw new TemplateError(`${file}: chat_template is neither a text nor a list with a "default"`);
  return chosen;
}
