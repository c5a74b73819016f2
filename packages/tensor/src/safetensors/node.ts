/// <reference lib="esnext.disposable" preserve="true" />
/** Files as sources, and files written so that nobody ever sees half of one. Node only. */

import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { type ByteSource, longestPiece, pieces } from "./byte-source.ts";
import { quote, SafetensorsError } from "./error.ts";

/** An open file. Close it, or declare it with `await using`. */
export interface FileSource extends ByteSource, AsyncDisposable {
  close(): Promise<void>;
}

/**
 * Opens a file for reading by position; reads may overlap.
 *
 * @throws the system's own error (`ENOENT`, `EISDIR`, …) when it cannot be opened
 */
export async function openFile(path: string): Promise<FileSource> {
  const handle = await open(path, "r");
  const close = () => handle.close();
  try {
    const { size } = await handle.stat();
    return { size, read: (begin, end) => readFrom(handle, path, begin, end), close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readFrom(handle: FileHandle, path: string, begin: number, end: number): Promise<Uint8Array> {
  // Not from Node's shared pool: the bytes get their own buffer, aligned for every element type, and are not zeroed first.
  const bytes = Buffer.allocUnsafeSlow(end - begin);
  let filled = 0;
  while (filled < bytes.length) {
    const wanted = Math.min(bytes.length - filled, longestPiece);
    const { bytesRead } = await handle.read(bytes, filled, wanted, begin + filled);
    if (bytesRead === 0)
      throw new SafetensorsError("short-read", `${quote(path)} ends at byte ${begin + filled}, not ${end}`);
    filled += bytesRead;
  }
  return new Uint8Array(bytes.buffer);
}

/**
 * Writes `chunks` to `path` in one step for all who look: to a file beside it, synced, then renamed over it. On any
 * error, also one thrown by `chunks`, the file beside is removed and what `path` held before still stands.
 *
 * @returns bytes written
 */
export async function writeFileAtomically(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<number> {
  const beside = `${path}.${randomUUID()}.partial`;
  const handle = await open(beside, "wx");
  try {
    const written = await writeAll(handle, chunks).finally(() => handle.close());
    await rename(beside, path);
    await syncFolder(dirname(path));
    return written;
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

async function writeAll(handle: FileHandle, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<number> {
  let total = 0;
  for await (const chunk of chunks) {
    for (const [begin, end] of pieces(0, chunk.length)) {
      for (let at = begin; at < end;) at += (await handle.write(chunk, at, end - at, total + at)).bytesWritten;
    }
    total += chunk.length;
  }
  await handle.sync();
  return total;
}

/** Makes the rename itself last. Windows has no such call for folders. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, "r");
  await folder.sync().finally(() => folder.close());
}
