/** Reads safetensors files by ranges: the header once, then each tensor when it is asked for. */

import { UsageError } from "../errors.ts";
import type { ByteSource } from "./byte-source.ts";
import { quote, SafetensorsError } from "./error.ts";
import { type Header, longestHeader, parseHeader, type TensorEntry } from "./header.ts";

/** An open file: what it holds, and the bytes of each tensor on demand. */
export interface Safetensors extends Header {
  /**
   * The bytes of a tensor, little-endian, in row-major order. May be a view of the source: do not write to it.
   *
   * @throws {SafetensorsError} when no tensor has that name, or the source comes up short
   */
  read(name: string): Promise<Uint8Array>;
  /**
   * Bytes `begin` (inclusive) to `end` (exclusive) of a tensor, counted from its first.
   *
   * @throws {UsageError} when the range is not inside the tensor
   * @throws {SafetensorsError} when no tensor has that name, or the source comes up short
   */
  readRange(name: string, begin: number, end: number): Promise<Uint8Array>;
}

/**
 * Reads and checks the header of a safetensors file. Verdicts are those of the reference (safetensors 0.8.0), and
 * stricter in two things: a duplicate key anywhere in the header and more than 8,388,608 values are refused.
 *
 * @param source read twice here, 8 bytes and the header, and then once for each tensor asked for
 * @param options.name how messages call the file
 * @throws {SafetensorsError} naming the file, the tensor, the value and the rule broken
 * @see https://huggingface.co/docs/safetensors
 */
export async function openSafetensors(source: ByteSource, { name: file }: { name: string }): Promise<Safetensors> {
  async function bytes(begin: number, end: number): Promise<Uint8Array> {
    const read = await source.read(begin, end);
    if (read.length === end - begin) return read;
    throw new SafetensorsError("short-read", `${file}: ${read.length} bytes came of ${begin} to ${end}`);
  }

  const header = await readHeader(bytes, file, source.size);

  function entry(name: string): TensorEntry {
    const found = header.tensors.get(name);
    if (found) return found;
    const message = `${file}: no tensor ${quote(name)} among its ${header.tensors.size}`;
    throw new SafetensorsError("no-such-tensor", message);
  }

  return {
    ...header,
    async read(name) {
      const { begin, end } = entry(name);
      return bytes(begin, end);
    },
    async readRange(name, begin, end) {
      const tensor = entry(name);
      const size = tensor.end - tensor.begin;
      if (!(Number.isInteger(begin) && Number.isInteger(end) && 0 <= begin && begin <= end && end <= size)) {
        throw new UsageError(
          `${file}: bytes ${begin} to ${end} are not a range of tensor ${quote(name)} of ${size} bytes`,
        );
      }
      return bytes(tensor.begin + begin, tensor.begin + end);
    },
  };
}

/** `ignoreBOM` keeps a byte-order mark in the text, where the parser refuses it as the reference does. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

type Read = (begin: number, end: number) => Promise<Uint8Array>;

async function readHeader(read: Read, file: string, size: number): Promise<Header> {
  const fail = (message: string): never => {
    throw new SafetensorsError("header-length", `${file}: ${message}`);
  };
  if (size < 8) fail(`${size} bytes are too few: the first 8 give the length of the header`);
  const prefix = await read(0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(longestHeader)) fail(`the header is ${length} bytes long, more than ${longestHeader}`);
  const dataBegin = 8 + Number(length);
  if (dataBegin > size) fail(`the header ends at byte ${dataBegin}, but the file at ${size}`);
  return parseHeader(decode(await read(8, dataBegin), file), file, dataBegin, size);
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new SafetensorsError("utf-8", `${file}: the header is not UTF-8`);
  }
}
