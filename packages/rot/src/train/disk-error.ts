/** What goes wrong when a run writes its files. */

/** A file or folder of a run could not be written. The message names it and what the system said. */
export class DiskError extends Error {
  override readonly name = "DiskError";
}

/**
 * Runs `work`, and turns what the system says against it into a {@link DiskError}.
 *
 * @param what  what is written, as the message begins
 */
export async function onDisk<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException | null)?.syscall !== "string") throw error;
    throw new DiskError(`${what}: ${(error as Error).message}`, { cause: error });
  }
}
