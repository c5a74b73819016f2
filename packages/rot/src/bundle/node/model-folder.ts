/** What a path must be to be a model's. Node only. */
import { join } from "node:path";
import { isFile, isThere } from "../../node/paths.ts";
import { BundleError } from "../config.ts";

/** `Qwen/Qwen3-VL-2B-Instruct`: a name of the hub, which people give where a folder is wanted. */
const hubName = /^[\w.-]+\/[\w.-]*\d[Bb][\w.-]*$/;

/** That there is nothing at a path, and what to do where it was meant as a model's name. */
export const nothingAt = (path: string): string =>
  hubName.test(path)
    ? `there is no folder ${path}; models are not downloaded here: fetch it first, as in hf download ${path} --local-dir ${path}`
    : `there is no ${path}`;

/** @throws {BundleError} when there is no folder, or it is no model's */
export async function checkModelFolder(path: string): Promise<void> {
  if (await isFile(join(path, "config.json"))) return;
  if (!(await isThere(path))) throw new BundleError(`--model: ${nothingAt(path)}`);
  throw new BundleError(`--model: ${path} is no model's folder: it has no config.json`);
}
