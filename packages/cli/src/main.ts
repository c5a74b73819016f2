/** The process: runs the command line and turns what it throws into one message and an exit code. */
import { CommanderError } from "commander";
import { ExitError, exitCodeOf, exitCodes } from "./exit-codes.ts";
import { program } from "./program.ts";

// A closed pipe (`rot-cli … | head -1`) is the reader's choice, not an error.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(exitCodes.done);
    throw error;
  });
}

try {
  await program({
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    terminal: process.stderr.isTTY === true && process.env["TERM"] !== "dumb" && !process.env["CI"],
  }).parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
  // Commander has printed its own.
  if (!(error instanceof CommanderError)) {
    // What nobody foresaw shows where it came from.
    const known = error instanceof ExitError || process.exitCode !== exitCodes.internal;
    process.stderr.write(
      `rot-cli: ${error instanceof Error ? (known ? error.message : error.stack) : String(error)}\n`,
    );
  }
}
