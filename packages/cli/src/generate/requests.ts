/** What `rot-cli generate` is asked: one prompt of the command line, or a file of them. */
import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { UsageError } from "@rot/tensor";
import { z } from "zod";
import { ExitError, exitCodes } from "../exit-codes.ts";

/** A question about pictures. */
export interface Request {
  readonly prompt: string;
  /** Files of pictures, which stand before the question. */
  readonly images: readonly string[];
  readonly system?: string | undefined;
}

/** The flags that requests are made of. */
export interface RequestFlags {
  readonly prompt?: string;
  readonly batch?: string;
  readonly image?: readonly string[];
  readonly system?: string;
}

/** Files beyond this are refused before they are read into memory. */
const maxBytes = 64 * 1024 * 1024;

const line = z.strictObject({
  prompt: z.string(),
  images: z.array(z.string()).max(1000).default([]),
  system: z.string().optional(),
});

/**
 * The requests of a command line. A batch file that ends in `.jsonl` has an object a line, whose pictures are named from
 * the file's folder; any other has a prompt a line.
 *
 * @throws {UsageError} when there is neither a prompt nor a file, or both
 * @throws {ExitError} when the file cannot be used; the message names the line
 */
export async function readRequests({ prompt, batch, image = [], system }: RequestFlags): Promise<readonly Request[]> {
  if ((prompt === undefined) === (batch === undefined)) throw new UsageError("give --prompt TEXT or --batch FILE");
  if (batch === undefined) return [{ prompt: prompt as string, images: image, system }];
  const text = await readText(batch);
  const lines = text.split(/\r\n|\n/);
  if (lines.at(-1) === "") lines.pop();
  if (lines.length === 0) throw new ExitError(`${batch} has no lines`, exitCodes.badInput);
  if (!batch.endsWith(".jsonl")) return lines.map((one) => ({ prompt: one, images: image, system }));
  return lines.map((one, i) => {
    const request = parse(one, `${batch}:${i + 1}`);
    const images = request.images.map((file) => resolve(dirname(batch), file));
    return { prompt: request.prompt, images: [...image, ...images], system: request.system ?? system };
  });
}

function parse(text: string, where: string): z.infer<typeof line> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ExitError(`${where}: it is not JSON; a line is {"prompt": "…", "images": ["a.png"]}`, exitCodes.badInput);
  }
  const parsed = line.safeParse(json);
  if (!parsed.success) {
    throw new ExitError(`${where}: ${z.prettifyError(parsed.error).slice(0, 500)}`, exitCodes.badInput);
  }
  return parsed.data;
}

async function readText(file: string): Promise<string> {
  const refuse = (why: string): never => {
    throw new ExitError(`${file} ${why}`, exitCodes.badInput);
  };
  const cannot = (error: unknown): never => refuse(`cannot be read: ${(error as Error).message}`);
  const found = await stat(file).catch(cannot);
  if (!found.isFile()) refuse("is not a file");
  if (found.size > maxBytes) refuse(`is longer than ${maxBytes} bytes; split it`);
  const bytes = await readFile(file).catch(cannot);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return refuse("is not UTF-8; convert it first");
  }
}
