/**
 * The directory of a zip archive as torch writes it: entries stored as they are, so that each is a range of the file.
 * Everything that two readers could understand differently is refused: compression, encryption, duplicate or odd names,
 * entries that overlap, headers that disagree, bytes after the end.
 *
 * @see https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
import type { ByteSource } from "@rot/tensor/safetensors";
import { type Fail, quote } from "./error.ts";

/** One entry. */
export interface ZipEntry {
  readonly name: string;
  /** CRC-32 of the data, as the directory states it. */
  readonly crc: number;
  /** First byte of the data in the file. */
  readonly begin: number;
  /** Byte after the last. */
  readonly end: number;
}

/** Entries and bytes of directory that a checkpoint stays far below. */
const mostEntries = 500_000;
const longestDirectory = 128 * 2 ** 20;

const u16max = 0xffff;
const u32max = 0xffffffff;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads the directory at the end of `source`, and the header before each entry. In the order of the directory. */
export async function readZipDirectory(source: ByteSource, fail: Fail): Promise<Map<string, ZipEntry>> {
  const broken = (message: string): never => fail("container", `the zip archive ${message}`);
  async function read(begin: number, length: number, what: string): Promise<DataView> {
    if (begin < 0 || begin + length > source.size) broken(`ends before its ${what}`);
    const bytes = await source.read(begin, begin + length);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  const { begin, size, count } = await readEnd(read, source.size, broken);
  if (count > mostEntries || size > longestDirectory) {
    fail("limit", `a zip directory of ${count} entries and ${size} bytes`);
  }
  const directory = await read(begin, size, "directory");
  const entries = new Map<string, ZipEntry>();
  let reached = 0;
  let at = 0;
  for (let index = 0; index < count; index++) {
    const claim = readClaim(directory, at, broken);
    at = claim.next;
    if (entries.has(claim.name)) broken(`has two entries ${quote(claim.name)}`);
    // Torch and every streaming writer put the entries in the order of the directory; then none can overlap.
    if (claim.header < reached) broken(`has an entry ${quote(claim.name)} that overlaps the one before`);
    const entry = await checkLocal(read, claim, broken);
    if (entry.end > begin) broken(`has an entry ${quote(claim.name)} that reaches into the directory`);
    reached = entry.end;
    entries.set(entry.name, entry);
  }
  if (at !== size) broken(`has ${size - at} bytes in its directory that belong to no entry`);
  return entries;
}

type Broken = (message: string) => never;
type Read = (begin: number, length: number, what: string) => Promise<DataView>;

/** Where the directory is. The record of its end closes the file; a comment after it would let other bytes pose as it. */
async function readEnd(read: Read, size: number, broken: Broken) {
  if (size < 22) broken("is shorter than the record that ends one");
  const end = await read(size - 22, 22, "end");
  if (end.getUint32(0, true) !== 0x06054b50) broken("is cut short or damaged: its end is not at the end of the file");
  if (end.getUint16(20, true) !== 0) broken("has a comment");
  if (end.getUint16(4, true) !== 0 || end.getUint16(6, true) !== 0) broken("is one of several");
  const short = {
    count: end.getUint16(10, true),
    size: end.getUint32(12, true),
    begin: end.getUint32(16, true),
  };
  if (end.getUint16(8, true) !== short.count) broken("counts its entries twice, differently");
  const locatorAt = size - 42;
  const locator = locatorAt >= 56 ? await read(locatorAt, 20, "zip64 locator") : undefined;
  if (locator?.getUint32(0, true) !== 0x07064b50) {
    if (short.count === u16max || short.size === u32max || short.begin === u32max) broken("lacks its zip64 record");
    if (short.begin + short.size !== size - 22) broken("has a gap between its directory and its end");
    return short;
  }

  const recordAt = locatorAt - 56;
  if (locator.getBigUint64(8, true) !== BigInt(recordAt)) broken("has its zip64 record in an odd place");
  if (locator.getUint32(4, true) !== 0 || locator.getUint32(16, true) > 1) broken("is one of several");
  const record = await read(recordAt, 56, "zip64 record");
  if (record.getUint32(0, true) !== 0x06064b50 || record.getBigUint64(4, true) !== 44n) broken("has no zip64 record");
  if (record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0) broken("is one of several");
  const long = {
    count: number64(record, 32, broken),
    size: number64(record, 40, broken),
    begin: number64(record, 48, broken),
  };
  if (number64(record, 24, broken) !== long.count) broken("counts its entries twice, differently");
  const agree = (a: number, b: number, max: number): boolean => a === b || a === max;
  if (
    !agree(short.count, long.count, u16max) ||
    !agree(short.size, long.size, u32max) ||
    !agree(short.begin, long.begin, u32max)
  ) {
    broken("states its directory twice, differently");
  }
  if (long.begin + long.size !== recordAt) broken("has a gap between its directory and its end");
  return long;
}

function number64(view: DataView, at: number, broken: Broken): number {
  const value = view.getBigUint64(at, true);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? broken(`holds the number ${value}`) : Number(value);
}

interface Claim {
  readonly name: string;
  readonly flags: number;
  readonly crc: number;
  readonly size: number;
  /** Where its local header begins. */
  readonly header: number;
  /** Where the next claim begins. */
  readonly next: number;
}

/** Bit 3: sizes and checksum follow the data. Bit 11: the name is UTF-8. Bits 1 and 2 mean nothing for stored data. */
const allowedFlags = 0x080e;

function readClaim(directory: DataView, at: number, broken: Broken): Claim {
  if (at + 46 > directory.byteLength || directory.getUint32(at, true) !== 0x02014b50) broken("has a damaged directory");
  const flags = directory.getUint16(at + 8, true);
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) =>
    directory.getUint16(at + field, true),
  ) as [number, number, number];
  const extraAt = at + 46 + nameLength;
  const next = extraAt + extraLength + commentLength;
  if (next > directory.byteLength) broken("has a damaged directory");
  const name = decodeName(directory, at + 46, nameLength, broken);
  const bad = (message: string): never => broken(`has an entry ${quote(name)} ${message}`);
  if (flags & 0x2041) bad("that is encrypted");
  if (flags & ~allowedFlags) bad(`with flags 0x${flags.toString(16)}`);
  if (directory.getUint16(at + 10, true) !== 0)
    bad("that is compressed; torch stores them as they are: save it again with torch.save");
  if (directory.getUint16(at + 34, true) !== 0) bad("on another disk");
  const long = readZip64(directory, extraAt, extraLength, bad);
  const field = (offset: number): number => {
    const value = directory.getUint32(at + offset, true);
    return value === u32max ? long() : value;
  };
  const size = field(24);
  if (field(20) !== size) bad("of two sizes");
  const header = field(42);
  return { name, flags, crc: directory.getUint32(at + 16, true), size, header, next };
}

/** The 64-bit numbers of an extra field, to be taken in order. */
function readZip64(view: DataView, begin: number, length: number, bad: Broken): () => number {
  let found: number | undefined;
  let end = 0;
  for (let at = begin; at < begin + length;) {
    const next = at + 4 + (at + 4 <= begin + length ? view.getUint16(at + 2, true) : u32max);
    if (next > begin + length) bad("with a damaged extra field");
    if (view.getUint16(at, true) === 1) {
      if (found !== undefined) bad("with two zip64 fields");
      [found, end] = [at + 4, next];
    }
    at = next;
  }
  return () => {
    if (found === undefined || found + 8 > end) return bad("without its zip64 numbers");
    found += 8;
    return number64(view, found - 8, bad);
  };
}

function decodeName(view: DataView, at: number, length: number, broken: Broken): string {
  let name: string;
  try {
    name = decoder.decode(new Uint8Array(view.buffer, view.byteOffset + at, length));
  } catch {
    return broken("has an entry whose name is not UTF-8");
  }
  const odd = name.split("/").some((part) => part === "" || part === "." || part === "..");
  // oxlint-disable-next-line no-control-regex
  return odd || /[\u0000-\u001f\\:]/.test(name) ? broken(`has an entry with the odd name ${quote(name)}`) : name;
}

/** The header before the data must say the same as the directory, or leave it to the record after the data. */
async function checkLocal(read: Read, claim: Claim, broken: Broken): Promise<ZipEntry> {
  const bad = (message: string): never => broken(`has an entry ${quote(claim.name)} ${message}`);
  const fixed = await read(claim.header, 30, `entry ${quote(claim.name)}`);
  if (fixed.getUint32(0, true) !== 0x04034b50) bad("without a header");
  const nameLength = fixed.getUint16(26, true);
  const extraLength = fixed.getUint16(28, true);
  const rest = await read(claim.header + 30, nameLength + extraLength, `entry ${quote(claim.name)}`);
  const same =
    decodeName(rest, 0, nameLength, broken) === claim.name &&
    fixed.getUint16(6, true) === claim.flags &&
    fixed.getUint16(8, true) === 0;
  if (!same) bad("whose two headers differ");
  const [crc, stored, size] = [14, 18, 22].map((field) => fixed.getUint32(field, true)) as [number, number, number];
  const later = (claim.flags & 8) !== 0;
  const fits = (value: number, wanted: number): boolean => value === wanted || (later && value === 0);
  const long = size === u32max || stored === u32max ? readZip64(rest, nameLength, extraLength, bad) : undefined;
  const sizes = [size === u32max ? long?.() : size, stored === u32max ? long?.() : stored];
  if (!fits(crc, claim.crc) || !sizes.every((value) => fits(value ?? -1, claim.size))) bad("whose two headers differ");
  const begin = claim.header + 30 + nameLength + extraLength;
  return { name: claim.name, crc: claim.crc, begin, end: begin + claim.size };
}
