/** What stands at a path. Node only. */
import { stat } from "node:fs/promises";

/** Whether something does. */
export const isThere = async (path: string): Promise<boolean> => (await stat(path).catch(() => null)) !== null;

/** Whether a file does. */
export const isFile = async (path: string): Promise<boolean> => (await stat(path).catch(() => null))?.isFile() ?? false;

/** Whether a folder does. */
export const isFolder = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => null))?.isDirectory() ?? false;
