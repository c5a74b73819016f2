/** Writes a file whole or not at all. */
import { randomUUID } from "node:crypto";
import { link, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

/**
 * Writes aside, then moves the file to its place; makes the folders above it.
 *
 * @throws an error of code `EEXIST` when the file exists and `replace` is false
 */
export async function writePicture(file: string, bytes: Uint8Array, { replace }: { replace: boolean }): Promise<void> {
  const folder = dirname(file);
  await mkdir(folder, { recursive: true });
  const aside = join(folder, `.${randomUUID()}.part`);
  try {
    const handle = await open(aside, "wx");
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    // A link, unlike a rename, never replaces what another process has put there in the meantime.
    if (replace) await rename(aside, file);
    else await link(aside, file);
  } finally {
    await rm(aside, { force: true });
  }
}
