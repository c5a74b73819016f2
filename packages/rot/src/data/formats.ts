/** What the rows of each dataset look like, as their publishers write them, and how a row becomes a sample. */
import { braced } from "../evaluate/latex.ts";
import type { Sample } from "./sample.ts";

/** A row as it was read: the fields of an object, or a line of text. */
export type Row = Readonly<Record<string, unknown>> | string;

/** The fields of a sample, but for an id that the row may lack. */
export type Fields = Omit<Sample, "id"> & { readonly id?: number | string };

/** Thrown by a format for a row that does not fit it: the field and what is wrong with it. */
export class RowError extends Error {}

/** One form of rows. */
export interface Format {
  /** What users call it. */
  readonly name: string;
  /** What it is, for `--help`. */
  readonly summary: string;
  /** Whether a row looks like it. */
  matches(row: Row): boolean;
  /** @throws {RowError} when it is not */
  read(row: Row): Fields;
}

/** Options of reading. */
export interface FormatOptions {
  /** Removes the marks `<<16-3-4=9>>` of a calculator from GSM8K's chains. */
  readonly stripCalculator?: boolean;
}

const has = (row: Row, ...fields: readonly string[]): boolean =>
  typeof row !== "string" && fields.every((field) => Object.hasOwn(row, field));

/** A field as text. Numbers are written as JSON writes them. */
function text(row: Row, field: string, allowEmpty = false): string {
  if (typeof row === "string" || !Object.hasOwn(row, field)) throw new RowError(`it has no "${field}"`);
  const value = row[field];
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new RowError(`"${field}" is a number above 2^53, which JSON readers round: write it in quotes`);
  }
  const shown = typeof value === "number" && Number.isFinite(value) ? String(value) : value;
  if (typeof shown === "bigint") return shown.toString();
  if (typeof shown !== "string") {
    throw new RowError(
      `"${field}" is ${value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`}, not text`,
    );
  }
  if (!shown.isWellFormed()) throw new RowError(`"${field}" has half a surrogate pair`);
  if (!allowEmpty && shown.trim() === "") throw new RowError(`"${field}" is empty`);
  return shown.replaceAll("\r\n", "\n");
}

/** The id of a row, if it has one that can be one. */
function idOf(row: Row, field = "id"): { readonly id?: number | string } {
  if (typeof row === "string" || !Object.hasOwn(row, field)) return {};
  const id = row[field];
  return (typeof id === "string" && id !== "") || Number.isSafeInteger(id) ? { id: id as number | string } : {};
}

/** A chain and the answer after its `####`. The chain may be empty: 18 published rows of GSM8k-Aug have none. */
function splitAnswer(field: string, solution: string): { readonly cot: string; readonly answer: string } {
  const at = solution.lastIndexOf("####");
  if (at < 0) throw new RowError(`"${field}" has no #### before its answer`);
  const [cot, answer] = [solution.slice(0, at).trim(), solution.slice(at + 4).trim()];
  if (answer === "") throw new RowError(`"${field}" has nothing after ####`);
  return { cot, answer };
}

/** What stands in the last `\boxed{…}` or `\boxed x` of a solution. */
function boxed(solution: string): string {
  const at = solution.lastIndexOf("\\boxed");
  if (at < 0) throw new RowError(`"solution" has no \\boxed answer, and there is no "answer"`);
  const rest = solution.slice(at + 6);
  if (!rest.startsWith("{")) return (/^\s*([^\s$.]+)/.exec(rest)?.[1] ?? "").trim();
  const inside = braced(rest, 0);
  if (inside === null) throw new RowError(`the braces of \\boxed in "solution" are not closed`);
  return inside;
}

/** The formats, in the order in which a row is tried against them. */
export function formats({ stripCalculator = false }: FormatOptions = {}): readonly Format[] {
  const strip = (cot: string): string => (stripCalculator ? cot.replace(/<<[^<>]*>>/g, "") : cot);
  return [
    {
      name: "rot",
      summary: 'Render-of-Thought: {"id", "question", "cot", "answer"}',
      matches: (row) => has(row, "question", "cot", "answer"),
      read: (row) => ({
        ...idOf(row),
        question: text(row, "question"),
        // "" says that there is no chain; blanks are a mistake.
        cot: strip(text(row, "cot", (row as { cot?: unknown }).cot === "")),
        answer: text(row, "answer"),
      }),
    },
    {
      name: "gsm8k",
      summary: 'GSM8K: {"question", "answer"}, the answer after ####',
      matches: (row) => has(row, "question", "answer") && !has(row, "cot"),
      read(row) {
        const { cot, answer } = splitAnswer("answer", text(row, "answer"));
        return { ...idOf(row), question: text(row, "question"), cot: strip(cot), answer };
      },
    },
    {
      name: "gsm8k-aug",
      summary: "GSM8k-Aug: a line of text, question||<<16-3-4=9>> <<9*2=18>> #### 18",
      matches: (row) => typeof row === "string" && row.includes("||"),
      read(row) {
        if (typeof row !== "string") throw new RowError("it is no line of text");
        const at = row.indexOf("||");
        if (at < 0) throw new RowError("it has no || after its question");
        const question = row.slice(0, at).trim();
        if (question === "") throw new RowError("its question is empty");
        const { cot, answer } = splitAnswer("reasoning", row.slice(at + 2));
        // The marks are all there is: without them only their brackets can go.
        return { question, cot: stripCalculator ? cot.replace(/<<([^<>]*)>>/g, "$1") : cot, answer };
      },
    },
    {
      name: "svamp",
      summary: 'SVAMP: {"Body", "Question", "Equation", "Answer"}',
      matches: (row) => has(row, "Body", "Question", "Equation", "Answer"),
      read(row) {
        const body = text(row, "Body", true).trim();
        return {
          ...idOf(row, "ID"),
          question: `${body}${/[.!?,]$/.test(body) || body === "" ? "" : "."} ${text(row, "Question").trim()}`.trim(),
          cot: text(row, "Equation").trim(),
          answer: text(row, "Answer").trim(),
        };
      },
    },
    {
      name: "math",
      summary: 'MATH: {"problem", "solution", "answer"}, the answer else from \\boxed',
      matches: (row) => has(row, "problem", "solution"),
      read(row) {
        const solution = text(row, "solution");
        const answer = has(row, "answer") ? text(row, "answer") : boxed(solution);
        if (answer === "") throw new RowError(`\\boxed in "solution" is empty`);
        return {
          ...(has(row, "unique_id") ? idOf(row, "unique_id") : idOf(row)),
          question: text(row, "problem"),
          cot: solution,
          answer,
        };
      },
    },
  ];
}

/** Which fields of a row hold what: `question=prompt,cot=rationale,answer=final,id=uuid`. */
export interface FieldMap {
  readonly question: string;
  readonly cot: string;
  readonly answer: string;
  readonly id?: string;
}

/** The format of rows whose fields a user has named. */
export const mapped = (map: FieldMap): Format => ({
  name: "map",
  summary: "any rows, with --map question=…,cot=…,answer=…",
  matches: (row) => has(row, map.question, map.cot, map.answer),
  read: (row) => ({
    ...(map.id === undefined ? idOf(row) : idOf(row, map.id)),
    question: text(row, map.question),
    cot: text(row, map.cot),
    answer: text(row, map.answer),
  }),
});

/**
 * Reads `question=prompt,cot=rationale,answer=final`.
 *
 * @throws {RowError} naming the part that is wrong or missing
 */
export function parseMap(argument: string): FieldMap {
  const wanted = ["question", "cot", "answer", "id"];
  const map = new Map<string, string>();
  for (const part of argument.split(",")) {
    const at = part.indexOf("=");
    const [name, field] = [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    if (at < 0 || field === "" || !wanted.includes(name) || map.has(name)) {
      throw new RowError(
        `"${part}" is no part of a map: it takes question=FIELD,cot=FIELD,answer=FIELD and perhaps id=FIELD, each once`,
      );
    }
    map.set(name, field);
  }
  for (const name of wanted.slice(0, 3)) {
    if (!map.has(name)) throw new RowError(`the map "${argument}" does not say which field is the ${name}`);
  }
  return Object.fromEntries(map) as unknown as FieldMap;
}
