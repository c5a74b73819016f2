/** The page of a run that has ended. */
import { writeRunReport } from "@rot/rot/node";
import type { Output } from "../program.ts";

/** Writes it. That it cannot be written spoils no run: it is said, and `rot-cli report` can do it later. */
export async function writeRunPage(folder: string, output: Output): Promise<void> {
  try {
    output.err(`curves and results as a page: ${await writeRunReport(folder)}\n`);
  } catch (error) {
    output.err(`the run's page could not be written: ${(error as Error).message}\n`);
  }
}
