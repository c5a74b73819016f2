/**
 * A peer: a process that reads one request a line as JSON from its standard input and answers each with a line of JSON on
 * its fourth file, so that whatever its libraries print is in nobody's way.
 *
 *     → {"do": "prepare", "work": "matmul", "sizes": {"n": 256}}   ← {"fingerprint": [1, 2, 3, 4]} or {"fingerprint": null}
 *     → {"do": "time", "repeats": 5}                               ← {"milliseconds": 12.5}
 *
 * It says {"version": "1.2.3"} once it is ready, and {"error": "…"} to what it cannot do. It ends when its input does. While
 * the others have their turn it is held: the threads of some engines go on looking for work, and keep the cores busy.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { Peer, PeerKind } from "@rot/cli/bench";

/** Milliseconds to wait for an answer: some engines compile for long. */
const PATIENCE = 180_000;
/** How much of what a peer prints is kept for the message when it dies. */
const TAIL = 2000;

/** Whether a process can be held: Windows has no signal for it. */
export const canHold = process.platform !== "win32";

type Answer = Readonly<Record<string, unknown>>;

/**
 * Starts a peer and waits until it is ready.
 *
 * @param env  variables it gets besides ours
 * @throws {Error} when it ends or says nothing for three minutes
 */
export async function startPeer(
  name: string,
  kind: PeerKind,
  [program, ...args]: readonly [string, ...string[]],
  { folder, env }: { readonly folder: string; readonly env: Readonly<Record<string, string>> },
): Promise<Peer> {
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "pipe", "pipe"],
  });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => (printed = (printed + text).slice(-TAIL)));
  }
  let settle: ((answer: Answer | Error) => void) | undefined;
  let ended: Error | undefined;
  const end = (why: string): void => {
    ended ??= new Error([why, lastWords(printed)].filter(Boolean).join(": "));
    settle?.(ended);
  };
  child.on("error", ({ message }) => end(message));
  child.on("close", (code, signal) => end(`it ended with ${signal ?? code}`));
  child.stdin?.on("error", () => {}); // its exit says more
  createInterface({ input: child.stdio[3] as Readable }).on("line", (line) => settle?.(parse(line)));

  const answer = (): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        end(`no answer in ${PATIENCE / 1000} s`);
        child.kill("SIGKILL");
      }, PATIENCE);
      settle = (given) => {
        settle = undefined;
        clearTimeout(timer);
        if (given instanceof Error) reject(given);
        else if (typeof given["error"] === "string") reject(new Error(given["error"]));
        else resolve(given);
      };
      if (ended) settle(ended);
    });
  const hold = (): unknown => canHold && child.kill("SIGSTOP");
  const ask = async (request: object): Promise<Answer> => {
    if (canHold) child.kill("SIGCONT");
    if (!ended) child.stdin?.write(`${JSON.stringify(request)}\n`);
    return await answer().finally(hold);
  };

  const { version } = await answer();
  hold();
  return {
    name,
    kind,
    version: String(version),
    async prepare({ name: work, sizes }) {
      const { fingerprint } = await ask({ do: "prepare", work, sizes });
      return Array.isArray(fingerprint) ? fingerprint.map(Number) : null;
    },
    async time(repeats) {
      const { milliseconds } = await ask({ do: "time", repeats });
      if (typeof milliseconds === "number" && milliseconds >= 0) return milliseconds;
      throw new Error(`it answered ${JSON.stringify(milliseconds)} instead of milliseconds`);
    },
    stop() {
      if (canHold) child.kill("SIGCONT");
      child.stdin?.end();
      // Some engines leave a timer running.
      setTimeout(() => child.kill("SIGKILL"), 2000).unref();
    },
  };
}

function parse(line: string): Answer | Error {
  try {
    return JSON.parse(line) as Answer;
  } catch {
    return new Error(`it answered ${line.slice(0, 200)}, which is no JSON`);
  }
}

/** What it printed last about an error, or at all. */
function lastWords(text: string): string {
  const lines = text.trimEnd().split("\n");
  return lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? "";
}
