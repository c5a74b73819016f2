/** Signals that end long work after it has saved, and at once when they come twice. */
import { exitCodes } from "./exit-codes.ts";

/** What was asked of the process. */
export interface StopSignal {
  readonly signal: AbortSignal;
  /** The exit code for a stop that was asked for, or null. */
  readonly code: number | null;
  /** Gives the signals back. */
  dispose(): void;
}

const codes: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGINT: exitCodes.stopped,
  SIGUSR1: exitCodes.stopped,
  SIGTERM: exitCodes.terminated,
};

/**
 * Listens to Ctrl-C, SIGTERM and SIGUSR1.
 *
 * @param say  prints a line
 */
export function stopSignal(say: (text: string) => void): StopSignal {
  const controller = new AbortController();
  let code: number | null = null;
  const listener = (name: NodeJS.Signals): void => {
    if (code !== null) process.exit(name === "SIGTERM" ? exitCodes.terminated : exitCodes.interrupted);
    code = codes[name] ?? exitCodes.stopped;
    say(`${name}: finishing the step and saving; once more ends at once`);
    controller.abort();
  };
  const names = Object.keys(codes) as NodeJS.Signals[];
  for (const name of names) process.on(name, listener);
  return {
    signal: controller.signal,
    get code() {
      return code;
    },
    dispose() {
      for (const name of names) process.off(name, listener);
    },
  };
}
