/** `ROT_TUNE=full` in the commands: the kernels that a run meets first are tuned before it goes on. */
import { startTuning } from "@rot/kernels/tuner";
import type { Device } from "@rot/tensor";
import { progress } from "./progress.ts";
import type { Output } from "./program.ts";

/**
 * Begins to watch which kernels a run calls, and says so once on stderr. Without `ROT_TUNE=full` nothing happens.
 *
 * @param first  what is watched: "the first step"
 * @param signal ends the tuning early; what was found is kept
 * @returns      to be called, and waited for, when that is over: it tunes what it met and nothing is known about. Later calls
 *               do nothing
 */
export function tuneFirst(device: Device, first: string, output: Output, signal?: AbortSignal): () => Promise<void> {
  const tuning = startTuning(device);
  if (!tuning) return () => Promise.resolve();
  output.err(`tuner: ROT_TUNE is full: after ${first} its kernels are timed at each of their settings\n`);
  return async () => {
    const bar = progress(output, { label: "tuner", unit: "calls" });
    let calls = 0;
    const done = await tuning.finish({
      signal,
      onCall({ kernel }, done, total) {
        calls = total;
        bar.update({ done, total, note: kernel });
      },
    });
    if (!done) return;
    const { measured, file } = done;
    bar.update({ done: measured.length, total: calls });
    bar.finish();
    const faster = measured.filter(({ choice }) => choice && choice.ratio < 1).length;
    output.err(
      `tuner: of ${measured.length} kinds of calls ${faster} are faster at another setting${file === null ? "" : `; stored in ${file}`}
`,
    );
  };
}
