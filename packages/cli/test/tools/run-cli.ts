/** The command line as a test runs it. */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { Readable } from "node:stream";
import { exitCodeOf } from "../../src/exit-codes.ts";
import { type Output, program } from "../../src/program.ts";

/** What a command left. */
export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in this process; the message of its error, if it has one, is the end of `stderr`. */
export const run = (...args: readonly string[]): Promise<Ran> => runPiped("", ...args);

/** The same, with a text on its standard input. */
export async function runPiped(stdin: string, ...args: readonly string[]): Promise<Ran> {
  let [stdout, stderr] = ["", ""];
  const output: Output = {
    out: (text) => void (stdout += text),
    err: (text) => void (stderr += text),
    terminal: false,
  };
  try {
    await program(output, Readable.from([stdin])).parseAsync(args, { from: "user" });
    return { status: 0, stdout, stderr };
  } catch (error) {
    return { status: exitCodeOf(error), stdout, stderr: stderr + (error as Error).message };
  }
}

const main = resolve(import.meta.dirname, "../../src/main.ts");

/** Runs a command as a user would, in a process of its own, from the sources. */
export const spawn = (...args: readonly string[]) => spawnIn({}, ...args);

/** The same, with more in its environment. */
export const spawnIn = (environment: Readonly<Record<string, string>>, ...args: readonly string[]) =>
  spawnSync(process.execPath, ["--conditions=@rot/source", "--import", "tsx", main, ...args], {
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
