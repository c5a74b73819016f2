/** The header of a safetensors file: what it may say, and what it must add up to. */

import { describe, quote, SafetensorsError, type Rule } from "./error.ts";
import { type FileDType, fileDTypeBits, isFileDType } from "./file-dtype.ts";
import { type Json, Numeral, parseJson } from "./json.ts";

/** The longest header that the reference reads or writes, in bytes. */
export const longestHeader = 100_000_000;

/** One tensor of a file. */
export interface TensorEntry {
  /** Any text, even `../x` or `__proto__`: a key, never a path. */
  readonly name: string;
  readonly dtype: FileDType;
  /** Exact, but for a dimension above 2⁵³, which only a tensor without elements can have: such a one is rounded. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** Byte after the last, counted from the start of the file. */
  readonly end: number;
}

/** What a header says. Tensors stand in the header's order. */
export interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** A tensor as written: 64-bit numbers, offsets from the end of the header. */
interface Claim {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: readonly bigint[];
  readonly begin: bigint;
  readonly end: bigint;
}

/** The reference counts in u64, and so its overflows are ours. */
const limit = 2n ** 64n;

/**
 * Reads a header and checks it whole: every tensor's bytes are as many as its dtype and shape need, and together they
 * cover the data exactly once.
 *
 * @param text the header, decoded
 * @param file a name for messages
 * @param dataBegin byte of the file at which the header ends
 * @param fileSize bytes of the file
 * @throws {SafetensorsError} for a broken rule
 */
export function parseHeader(text: string, file: string, dataBegin: number, fileSize: number): Header {
  const fail = (rule: Rule, message: string): never => {
    throw new SafetensorsError(rule, `${file}: ${message}`);
  };
  const root = parseJson(text, (rule, message) => fail(rule, `header: ${message}`));
  if (!(root instanceof Map)) return fail("json", "header: an object wanted at the top");

  const members = root as ReadonlyMap<string, Json>;
  const metadata = readMetadata(members.get("__metadata__") ?? null, fail);
  const claims: Claim[] = [];
  for (const [name, value] of members) {
    if (name !== "__metadata__") claims.push(readClaim(name, value, fail));
  }

  const end = checkLayout(claims, fail);
  if (end !== BigInt(fileSize - dataBegin)) {
    fail("file-size", `the tensors end at byte ${end} of the data, but the file holds ${fileSize - dataBegin}`);
  }
  const tensors = new Map<string, TensorEntry>();
  for (const claim of claims) {
    tensors.set(claim.name, {
      name: claim.name,
      dtype: claim.dtype,
      shape: claim.shape.map(Number),
      begin: dataBegin + Number(claim.begin),
      end: dataBegin + Number(claim.end),
    });
  }
  return { metadata, tensors };
}

type Fault = (rule: Rule, message: string) => never;

function readMetadata(value: Json, fail: Fault): Map<string, string> {
  const metadata = new Map<string, string>();
  if (value === null) return metadata;
  if (!(value instanceof Map)) return fail("metadata", "__metadata__ is not an object");
  for (const [key, text] of value as ReadonlyMap<string, Json>) {
    if (typeof text !== "string") return fail("metadata", `__metadata__: the value of ${quote(key)} is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function readClaim(name: string, value: Json, fail: Fault): Claim {
  const bad: Fault = (rule, message) => fail(rule, `tensor ${quote(name)}: ${message}`);
  const [dtype, shape, offsets] = fields(value, bad);
  const [begin, end] = integers(offsets, "data_offsets", bad);
  if (begin === undefined || end === undefined || (offsets as readonly Json[]).length !== 2) {
    return bad("tensor", "data_offsets are not two integers");
  }
  return { name, dtype: readDType(dtype, bad), shape: integers(shape, "shape", bad), begin, end };
}

/** dtype, shape and data_offsets. Other fields are let be; the reference also takes the three as an array, in order. */
function fields(value: Json, bad: Fault): readonly [Json, Json, Json] {
  if (Array.isArray(value)) {
    const [dtype, shape, offsets] = value as readonly Json[];
    if (dtype === undefined || shape === undefined || offsets === undefined || value.length !== 3) {
      return bad("tensor", "an array of dtype, shape and data_offsets wanted");
    }
    return [dtype, shape, offsets];
  }
  if (!(value instanceof Map)) return bad("tensor", "an object wanted");
  const field = (key: string): Json => {
    const found = (value as ReadonlyMap<string, Json>).get(key);
    return found === undefined ? bad("tensor", `${key} is missing`) : found;
  };
  return [field("dtype"), field("shape"), field("data_offsets")];
}

/** `"F32"`, or `{"F32": null}` as the reference also takes it. */
function readDType(value: Json, bad: Fault): FileDType {
  let text = value;
  if (value instanceof Map) {
    const [[key, content] = ["", undefined], ...more] = value as ReadonlyMap<string, Json>;
    if (content !== null || more.length > 0) return bad("dtype", "dtype is not a string");
    text = key;
  }
  if (typeof text !== "string") return bad("dtype", "dtype is not a string");
  return isFileDType(text) ? text : bad("dtype", `${quote(text)} is not a dtype of safetensors`);
}

/** A list of integers of 0 to 2⁶⁴ - 1, written as such: `4.0`, `1e3` and `-0` are not. */
function integers(value: Json, what: string, bad: Fault): bigint[] {
  if (!Array.isArray(value)) return bad("tensor", `${what} is not an array`);
  return (value as readonly Json[]).map((item) => {
    if (!(item instanceof Numeral)) return bad("tensor", `${what} holds something that is not a number`);
    const integer = /^[0-9]+$/.test(item.text) ? BigInt(item.text) : limit;
    return integer < limit
      ? integer
      : bad("tensor", `${what} holds ${quote(item.text)}, not an integer of 0 to 2⁶⁴ - 1`);
  });
}

/** Bytes that a dtype and shape need, by the reference's 64-bit arithmetic: `[2⁶³, 2, 0]` overflows, `[0, 2⁶³]` not. */
function bytesNeeded({ dtype, shape }: Claim, bad: Fault): bigint {
  const multiply = (a: bigint, b: bigint): bigint => {
    const product = a * b;
    return product < limit
      ? product
      : bad("overflow", `${describe(dtype, shape)} has more bits than a 64-bit number counts`);
  };
  const bits = multiply(shape.reduce(multiply, 1n), BigInt(fileDTypeBits[dtype]));
  return bits % 8n === 0n ? bits / 8n : bad("sub-byte", `${describe(dtype, shape)} does not end with a byte`);
}

/** Checks that the tensors follow each other from 0 on. Returns where the last one ends. */
function checkLayout(claims: readonly Claim[], fail: Fault): bigint {
  const compare = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
  const inOrder = claims.toSorted((a, b) => compare(a.begin, b.begin) || compare(a.end, b.end));
  let reached = 0n;
  for (const claim of inOrder) {
    const { name, dtype, shape, begin, end } = claim;
    const bad: Fault = (rule, message) => fail(rule, `tensor ${quote(name)}: ${message}`);
    if (end < begin) bad("offsets", `data_offsets [${begin}, ${end}] end before they begin`);
    if (begin < reached)
      bad("offsets", `it begins at byte ${begin} of the data, inside another that ends at ${reached}`);
    if (begin > reached)
      bad("offsets", `it begins at byte ${begin} of the data, but nothing covers those from ${reached}`);
    const needed = bytesNeeded(claim, bad);
    if (end - begin !== needed) {
      bad(
        "size",
        `data_offsets [${begin}, ${end}] hold ${end - begin} bytes, but ${describe(dtype, shape)} needs ${needed}`,
      );
    }
    reached = end;
  }
  return reached;
}
