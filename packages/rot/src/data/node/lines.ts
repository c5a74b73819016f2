/** The lines of a file, one after another, in bounded memory. */
import { createReadStream } from "node:fs";
import { basename } from "node:path";
import type { BadRow } from "../sample.ts";

/** A line, decoded. */
export interface Line {
  /** `data.jsonl:17` */
  readonly place: string;
  readonly text: string;
  /** Whether a newline ends it. */
  readonly ended: boolean;
}

/** Bytes. No chain of thought is longer; without a bound one line could fill the memory. */
export const LONGEST_LINE = 16 * 2 ** 20;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads lines; in place of one that is too long or not UTF-8, what is wrong with it. A byte-order mark is left out. */
export async function* readLines(path: string): AsyncGenerator<Line | BadRow> {
  const name = basename(path);
  let number = 0;
  let rest: Buffer[] = [];
  let length = 0;
  const line = (ended: boolean): Line | BadRow => {
    const place = `${name}:${++number}`;
    const bytes = Buffer.concat(rest);
    rest = [];
    const tooLong = length > LONGEST_LINE;
    length = 0;
    if (tooLong) return { place, reason: `the line is longer than ${LONGEST_LINE / 2 ** 20} MiB` };
    try {
      const text = decoder.decode(bytes);
      return { place, text: number === 1 ? text.replace(/^\uFEFF/, "") : text, ended };
    } catch {
      return { place, reason: "the line is not UTF-8" };
    }
  };
  const take = (bytes: Buffer): void => {
    length += bytes.length;
    if (length <= LONGEST_LINE) rest.push(bytes);
    else rest = [];
  };
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let at = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, at)) {
      take(chunk.subarray(at, end));
      yield line(true);
      at = end + 1;
    }
    take(chunk.subarray(at));
  }
  if (length > 0) yield line(false);
}
