/** Writes a zip archive as torch does: entries stored as they are, each aligned, its checksum after it. */
import { crc32 } from "node:zlib";
import { UsageError } from "@rot/tensor";

/** An entry to write. Its size must be known; its bytes come when their turn comes. */
export interface EntryToWrite {
  readonly name: string;
  readonly size: number;
  readonly data: Uint8Array | (() => AsyncIterable<Uint8Array>);
}

const alignment = 64;
const u16max = 0xffff;
const u32max = 0xffffffff;

/** Bit 3: the checksum follows the data. Bit 11: names are UTF-8. */
const flags = 0x0808;
/** 1980-01-01, the first day that the format knows: equal content gives equal bytes. */
const date = 0x0021;

interface Written {
  readonly name: Uint8Array;
  readonly size: number;
  readonly crc: number;
  readonly header: number;
}

/**
 * The archive as a stream of chunks. Data begin at multiples of 64 bytes, which lets torch map the file. Numbers beyond
 * 32 bits are written as zip64.
 *
 * @throws {UsageError} when an entry gives another number of bytes than it said
 */
export async function* writeZip(entries: Iterable<EntryToWrite>): AsyncGenerator<Uint8Array> {
  const directory: Written[] = [];
  let at = 0;
  for (const entry of entries) {
    const name = new TextEncoder().encode(entry.name);
    const header = localHeader(name, entry.size, at);
    const headerAt = at;
    yield header;
    let size = 0;
    let crc = 0;
    const chunks = entry.data instanceof Uint8Array ? [entry.data] : entry.data();
    for await (const chunk of chunks) {
      size += chunk.length;
      if (size > entry.size) break; // a source without end must not fill the disk
      crc = crc32(chunk, crc);
      yield chunk;
    }
    if (size !== entry.size)
      throw new UsageError(`${entry.name}: ${size} bytes came, but ${entry.size} were announced`);
    const after = descriptor(crc, size);
    yield after;
    at += header.length + size + after.length;
    directory.push({ name, size, crc, header: headerAt });
  }
  const records = directory.map(directoryRecord);
  yield* records;
  yield end(
    directory.length,
    at,
    records.reduce((sum, record) => sum + record.length, 0),
  );
}

/** Little-endian fields of 2, 4 or 8 bytes, one after the other. */
function fields(...values: readonly (readonly [width: 2 | 4 | 8, value: number])[]): Uint8Array {
  const bytes = new Uint8Array(values.reduce((sum, [width]) => sum + width, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of values) {
    if (width === 2) view.setUint16(at, value, true);
    else if (width === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += width;
  }
  return bytes;
}

const isLong = (size: number): boolean => size >= u32max;

function localHeader(name: Uint8Array, size: number, at: number): Uint8Array {
  const long = isLong(size) ? fields([2, 1], [2, 16], [8, size], [8, size]) : new Uint8Array(0);
  // Torch fills up with a field "FB" of its own.
  const begin = at + 30 + name.length + long.length + 4;
  const padding = (alignment - (begin % alignment)) % alignment;
  const head = fields(
    [4, 0x04034b50],
    [2, isLong(size) ? 45 : 20],
    [2, flags],
    [2, 0],
    [2, 0],
    [2, date],
    [4, 0],
    [4, isLong(size) ? u32max : 0],
    [4, isLong(size) ? u32max : 0],
    [2, name.length],
    [2, long.length + 4 + padding],
  );
  return Buffer.concat([head, name, long, fields([2, 0x4246], [2, padding]), Buffer.alloc(padding, "Z")]);
}

function descriptor(crc: number, size: number): Uint8Array {
  const width = isLong(size) ? 8 : 4;
  return fields([4, 0x08074b50], [4, crc], [width, size], [width, size]);
}

function directoryRecord({ name, size, crc, header }: Written): Uint8Array {
  const numbers: [8, number][] = isLong(size)
    ? [
        [8, size],
        [8, size],
      ]
    : [];
  if (isLong(header)) numbers.push([8, header]);
  const long = numbers.length > 0 ? fields([2, 1], [2, 8 * numbers.length], ...numbers) : new Uint8Array(0);
  const version = numbers.length > 0 ? 45 : 20;
  const head = fields(
    [4, 0x02014b50],
    [2, version],
    [2, version],
    [2, flags],
    [2, 0],
    [2, 0],
    [2, date],
    [4, crc],
    [4, Math.min(size, u32max)],
    [4, Math.min(size, u32max)],
    [2, name.length],
    [2, long.length],
    [2, 0],
    [2, 0],
    [2, 0],
    [4, 0],
    [4, Math.min(header, u32max)],
  );
  return Buffer.concat([head, name, long]);
}

/** The zip64 record is always written, as torch does. */
function end(count: number, begin: number, size: number): Uint8Array {
  const record = begin + size;
  return Buffer.concat([
    fields([4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count], [8, size], [8, begin]),
    fields([4, 0x07064b50], [4, 0], [8, record], [4, 1]),
    fields(
      [4, 0x06054b50],
      [2, 0],
      [2, 0],
      [2, Math.min(count, u16max)],
      [2, Math.min(count, u16max)],
      [4, Math.min(size, u32max)],
      [4, Math.min(begin, u32max)],
      [2, 0],
    ),
  ]);
}
