/** Pages of runs. Node only. */
import { join } from "node:path";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";
import { runPage } from "../run/run-page.ts";
import { readRun } from "./read-run.ts";

export { rememberEvaluation, runOfCheckpoint } from "./evaluations.ts";

/**
 * Writes the page of a run from what its folder holds now.
 *
 * @param file  by default `report.html` in the folder
 * @returns     the file
 * @throws {UsageError} when there is no run in the folder
 */
export async function writeRunReport(folder: string, file = join(folder, "report.html")): Promise<string> {
  await writeFileAtomically(file, [Buffer.from(runPage(await readRun(folder)))]);
  return file;
}
