/** Which libraries a library needs, read from its file: what `ldd` says without running anything. */
import { type FileHandle, open } from "node:fs/promises";

const PROGRAM_HEADER = 56;
const DYNAMIC_ENTRY = 16;
const LOAD = 1;
const DYNAMIC = 2;
const NEEDED = 1n;
const STRING_TABLE = 5n;

/**
 * The sonames that a 64-bit little-endian ELF library needs.
 *
 * @throws {Error} when the file is not such a library
 */
export async function neededLibraries(path: string): Promise<string[]> {
  const file = await open(path);
  try {
    const header = await bytes(file, 0, 64);
    if (header.toString("latin1", 0, 6) !== "\x7fELF\x02\x01") throw new Error(`${path} is not a 64-bit ELF library`);
    const segments = await programHeaders(file, header);
    const dynamic = segments.find(({ type }) => type === DYNAMIC);
    if (!dynamic) return [];
    const entries = dynamicEntries(await bytes(file, dynamic.offset, dynamic.size));
    const table = entries.find(([tag]) => tag === STRING_TABLE)?.[1] ?? 0n;
    const segment = segments.find(
      (each) => each.type === LOAD && table >= each.address && table < each.address + BigInt(each.size),
    );
    if (!segment) throw new Error(`${path} has no string table`);
    const start = segment.offset + Number(table - segment.address);
    const names = entries.filter(([tag]) => tag === NEEDED).map(([, at]) => string(file, start + Number(at)));
    return await Promise.all(names);
  } finally {
    await file.close();
  }
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: bigint;
  readonly size: number;
}

async function programHeaders(file: FileHandle, header: Buffer): Promise<Segment[]> {
  const count = header.readUInt16LE(56);
  const table = await bytes(file, Number(header.readBigUInt64LE(32)), count * PROGRAM_HEADER);
  return Array.from({ length: count }, (_, index) => {
    const at = index * PROGRAM_HEADER;
    return {
      type: table.readUInt32LE(at),
      offset: Number(table.readBigUInt64LE(at + 8)),
      address: table.readBigUInt64LE(at + 16),
      size: Number(table.readBigUInt64LE(at + 32)),
    };
  });
}

function dynamicEntries(table: Buffer): [tag: bigint, value: bigint][] {
  return Array.from({ length: Math.floor(table.length / DYNAMIC_ENTRY) }, (_, index) => [
    table.readBigUInt64LE(index * DYNAMIC_ENTRY),
    table.readBigUInt64LE(index * DYNAMIC_ENTRY + 8),
  ]);
}

async function string(file: FileHandle, offset: number): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, offset);
  return buffer.toString("latin1", 0, bytesRead).replace(/\0.*$/s, "");
}

async function bytes(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { size } = await file.stat();
  if (offset + length > size) throw new Error(`an ELF file ends at byte ${size}, before ${offset + length}`);
  return (await file.read(Buffer.alloc(length), 0, length, offset)).buffer;
}
