/** Writes safetensors files, byte for byte as the reference does. */

import { describe, quote, type Rule, SafetensorsError } from "./error.ts";
import { type FileDType, fileDTypeBits, fileDTypes, isFileDType } from "./file-dtype.ts";
import { longestHeader } from "./header.ts";

/** A tensor to write. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  /**
   * The bytes, little-endian, in row-major order; or what gives them when their turn comes, whole or in pieces, so that
   * one tensor or one piece is held at a time.
   */
  readonly data: Uint8Array | (() => Promise<Uint8Array> | Uint8Array | AsyncIterable<Uint8Array>);
}

/**
 * A safetensors file as a stream of chunks: the length and header, then each tensor. Tensors are sorted as the
 * reference sorts them: by falling alignment of their dtype, then by name. Metadata keys are sorted too, where the
 * reference leaves their order to chance.
 *
 * @param entries names, dtypes and shapes are checked here; the bytes when there, else when their turn comes
 * @param metadata texts for `__metadata__`; without it the file has none
 * @throws {SafetensorsError} at once for a name, shape or length that a file cannot hold, or two tensors of one name.
 *   A function that gives too many or too few bytes ends the stream with the same error: write to a file that nobody
 *   sees until it is whole, as `writeFileAtomically` of `@rot/tensor/safetensors/node` does
 */
export function writeSafetensors(
  entries: Iterable<TensorSource>,
  metadata?: ReadonlyMap<string, string>,
): AsyncGenerator<Uint8Array> {
  const sources = [...entries].toSorted(
    (a, b) => fileDTypes.indexOf(b.dtype) - fileDTypes.indexOf(a.dtype) || compareText(a.name, b.name),
  );
  const sizes = sources.map(check);
  const names = new Set<string>();
  for (const { name } of sources) {
    if (names.has(name)) fail("duplicate-key", name, "it comes twice");
    names.add(name);
  }
  return stream(encodeHeader(sources, sizes, metadata), sources, sizes);
}

async function* stream(
  header: Uint8Array,
  sources: readonly TensorSource[],
  sizes: readonly number[],
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const [index, source] of sources.entries()) {
    const size = sizes[index] ?? 0;
    const given = typeof source.data === "function" ? await source.data() : source.data;
    const pieces = given instanceof Uint8Array ? [given] : given;
    if (given instanceof Uint8Array) checkSize(source, given.length, size);
    let length = 0;
    for await (const piece of pieces) {
      length += piece.length;
      if (length > size) break; // a source without end must not fill the disk
      if (piece.length > 0) yield piece;
    }
    checkSize(source, length, size);
  }
}

function fail(rule: Rule, name: string, message: string): never {
  throw new SafetensorsError(rule, `writeSafetensors: tensor ${quote(name)}: ${message}`);
}

/** Bytes of a tensor, when all that can be known before it is read is right. */
function check(source: TensorSource): number {
  const { name, dtype, shape, data } = source;
  if (name === "__metadata__") fail("text", name, "the format keeps this name for itself");
  if (!name.isWellFormed()) fail("text", name, "the name has half a surrogate pair");
  if (!isFileDType(dtype)) fail("dtype", name, `${quote(dtype)} is not a dtype of safetensors`);
  if (!shape.every((length) => Number.isSafeInteger(length) && length >= 0)) {
    fail("size", name, `${describe(dtype, shape)} is not a shape`);
  }
  const bits = shape.reduce((product, length) => product * BigInt(length), BigInt(fileDTypeBits[dtype]));
  if (bits % 8n !== 0n) fail("sub-byte", name, `${describe(dtype, shape)} does not end with a byte`);
  if (bits / 8n > BigInt(Number.MAX_SAFE_INTEGER)) fail("overflow", name, `${describe(dtype, shape)} is too large`);
  const size = Number(bits / 8n);
  if (typeof data !== "function") checkSize(source, data.length, size);
  return size;
}

function checkSize({ name, dtype, shape }: TensorSource, length: number, size: number): void {
  if (length === size) return;
  fail("size", name, `${length} bytes came, but ${describe(dtype, shape)} needs ${size}`);
}

/** Length and header, as the reference spells them: no white space, `__metadata__` first, filled up to 8 bytes. */
function encodeHeader(
  sources: readonly TensorSource[],
  sizes: readonly number[],
  metadata: ReadonlyMap<string, string> | undefined,
): Uint8Array {
  const members: string[] = metadata ? [`"__metadata__":{${encodeMetadata(metadata)}}`] : [];
  let begin = 0;
  for (const [index, { name, dtype, shape }] of sources.entries()) {
    const end = begin + (sizes[index] ?? 0);
    members.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${begin},${end}]}`,
    );
    begin = end;
  }
  const text = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > longestHeader) {
    throw new SafetensorsError(
      "header-length",
      `writeSafetensors: the header takes ${length} bytes, more than ${longestHeader}`,
    );
  }
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, 8);
  return header;
}

function encodeMetadata(metadata: ReadonlyMap<string, string>): string {
  const texts = [...metadata].toSorted(([a], [b]) => compareText(a, b));
  for (const [key, text] of texts) {
    if (key.isWellFormed() && text.isWellFormed()) continue;
    throw new SafetensorsError("text", `writeSafetensors: metadata ${quote(key)} has half a surrogate pair`);
  }
  return texts.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`).join(",");
}

/** By code points, which is the order of the UTF-8 bytes; `<` goes by UTF-16 and puts U+10000 before U+E000. */
function compareText(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  // Where two characters differ only in their second half, the halves alone give the same order.
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}
