/** `npm run bench`: `rot-cli bench` with what only a checkout has, the peers and the folder of reports. */
import { fileURLToPath } from "node:url";
import { bench, exitCodeOf } from "@rot/cli/bench";
import { CommanderError } from "commander";
import { peers } from "./peers.ts";

const command = bench(
  {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    terminal: process.stderr.isTTY,
  },
  { command: "npm run bench --", peers, results: fileURLToPath(new URL("../results", import.meta.url)) },
);

try {
  await command.exitOverride().parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
  if (!(error instanceof CommanderError)) {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
