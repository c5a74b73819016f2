/** A reader of plain ustar archives, strict because what it returns is loaded as code. */
import { DeviceError } from "../../errors.ts";

const BLOCK = 512;

/**
 * Picks files out of a tar archive of plain files in one folder.
 *
 * @param archive  the whole archive, uncompressed
 * @param wanted   names of the files to return
 * @param folder   the name of that folder, if the archive has one; it is no part of the files' names
 * @returns        the bytes of each wanted file, as views of `archive`
 * @throws {DeviceError} when the archive is damaged, holds anything but plain files, or lacks a wanted one
 */
export function readTar(archive: Uint8Array, wanted: readonly string[], folder?: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const seen = new Set<string>();
  let offset = 0;
  while (true) {
    const header = archive.subarray(offset, offset + BLOCK);
    if (header.length < BLOCK) throw damaged(`it ends at byte ${archive.length}, inside a header`);
    if (header.every((byte) => byte === 0)) break;
    const { name, size } = readHeader(header, offset, folder);
    if (seen.has(name)) throw damaged(`"${name}" is in it twice`);
    seen.add(name);
    const start = offset + BLOCK;
    if (start + size > archive.length)
      throw damaged(`"${name}" has ${size} bytes by its header, ${archive.length - start} are left`);
    if (wanted.includes(name)) files.set(name, archive.subarray(start, start + size));
    offset = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  const missing = wanted.filter((name) => !files.has(name));
  if (missing.length > 0) throw damaged(`${missing.join(", ")} is not in it`);
  return files;
}

function readHeader(header: Uint8Array, offset: number, folder?: string): { name: string; size: number } {
  const where = `header at byte ${offset}`;
  // The checksum counts its own field as eight spaces.
  const sum = header.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte), 0);
  if (text(header, 257, 5) !== "ustar" || octal(header, 148, 8) !== sum)
    throw damaged(`${where} is not one of a tar archive`);
  const path = text(header, 0, 100).replace(/^\.\//, "");
  const name = folder !== undefined && path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : path;
  const type = text(header, 156, 1);
  if (type !== "" && type !== "0") throw damaged(`"${name}" is of type "${type}", not a plain file`);
  // POSIX archives may hold a folder in a prefix field; GNU ones keep times there, told apart by the version.
  const prefixed = text(header, 263, 2) === "00" && text(header, 345, 155) !== "";
  if (prefixed || !/^[A-Za-z0-9_][\w.+-]*$/.test(name))
    throw damaged(`${JSON.stringify(name)} is not a plain file name`);
  const size = octal(header, 124, 12);
  if (size === undefined) throw damaged(`the size of "${name}" is not a number`);
  return { name, size };
}

function text(header: Uint8Array, start: number, length: number): string {
  return Buffer.from(header.subarray(start, start + length))
    .toString("latin1")
    .replace(/\0.*$/s, "");
}

function octal(header: Uint8Array, start: number, length: number): number | undefined {
  const digits = text(header, start, length).trim();
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}

function damaged(what: string): DeviceError {
  return new DeviceError(`damaged tar archive: ${what}`);
}
