/** Runs the stages and evaluations of the embedded default, and knows how long the rest will take. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Contents, latestCheckpoint } from "../../train/checkpoint-folder.ts";
import { runTask } from "../../train/run-task.ts";
import type { TrainingTask } from "../../train/task.ts";
import type { Score, ThoughtScore } from "../evaluate.ts";
import { type StagePlan, secondsOf } from "../plan.ts";
import type { TinyResults, TinyRow } from "../results.ts";

/** How far everything is. */
export interface TinyProgress {
  readonly stage: StagePlan["name"] | "measuring";
  readonly step: number;
  /** Steps at most; 0 where there are none to count. */
  readonly steps: number;
  /** Whether the stage ends by its losses, most often long before its last step. */
  readonly mayEndEarly: boolean;
  readonly losses: Readonly<Record<string, number>>;
  /** What all that is left is expected to take. */
  readonly secondsLeft: number;
}

/** How well a stage does on validation problems so far. */
export interface TinyValidation {
  readonly stage: StagePlan["name"];
  readonly step: number;
  /** The part of the problems that is answered right. */
  readonly accuracy: number;
}

/** What a {@link runner} takes. */
export interface RunnerOptions {
  /** Where metrics and checkpoints of each stage go; nothing is written without it. */
  readonly folder?: string;
  /** Goes on from the checkpoints in the folder. */
  readonly resume?: boolean;
  /** Ends after the step that is being done, with a checkpoint. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TinyProgress) => void;
  /** Called after every step, those that only measure the machine too, and waited for. */
  readonly afterStep?: () => Promise<void>;
  readonly onValidation?: (validation: TinyValidation) => void;
  /** Told of damaged checkpoints that are passed over, and of stages that did not get where they should. */
  readonly onWarning?: (message: string) => void;
}

/** What a stage may be given besides its task. */
export interface StageExtras {
  /** The part of the validation problems that is answered right now. */
  readonly accuracy?: () => Promise<number>;
  /** What belongs into checkpoints besides the state of training. */
  readonly contents?: (() => Contents) | undefined;
  /** Which time it is that the stage is tried, from 1. */
  readonly attempt?: number;
}

/** How a stage went. */
export interface StageEnd {
  /** That its steps took, those before a resume too. */
  readonly seconds: number;
  /** Whether its losses came to where they should be, for a stage that says where that is. */
  readonly reached: boolean;
}

/** Runs what is asked for, one after the other. */
export interface Runner {
  /** Trains, or goes on, or takes what was trained before. */
  stage(task: TrainingTask, extras?: StageExtras): Promise<StageEnd>;
  score<S extends Score>(arm: TinyRow["arm"], trainingSeconds: number, score: () => Promise<S>): Promise<TinyRow>;
  readonly done: TinyResults["stages"];
  /** Seconds of a step of `chains`, as of late. */
  readonly pace: number;
}

/** Ends everything when the signal says so. */
export class Stopped extends Error {}

/** Steps from one checkpoint to the next, and from one validation to the next. */
const EVERY = 250;

/**
 * @param stages          what is planned, for the time that is left
 * @param secondsPerStep  measured on this device: a step of `chains`
 */
export function runner(
  { folder, resume = false, signal, onProgress, afterStep, onValidation, onWarning = () => {} }: RunnerOptions,
  stages: () => readonly StagePlan[],
  secondsPerStep: number,
): Runner {
  let pace = secondsPerStep;
  const done: { name: string; steps: number; seconds: number }[] = [];
  const left = (name: string, step: number): number => {
    const [now, ...after] = stages().slice(stages().findIndex((stage) => stage.name === name));
    const rest = now ? [{ ...now, steps: Math.max(0, now.steps - step) }, ...after] : [];
    return secondsOf(rest, pace);
  };
  return {
    done,
    get pace() {
      return pace;
    },

    async stage(task, { accuracy, contents, attempt = 1 } = {}) {
      const name = task.name as StagePlan["name"];
      const where = folder && join(folder, attempt > 1 ? `${name}-${attempt}` : name);
      if (where) await mkdir(where, { recursive: true });
      const saved = where && resume ? await latestCheckpoint(join(where, "checkpoints"), onWarning) : null;
      const cost = stages().find((stage) => stage.name === name)?.cost ?? 1;
      const validate = async () => {
        const part = (await accuracy?.()) as number;
        return { validation: 1 - part, accuracy: part };
      };
      const { step, end, seconds } = await runTask(
        { ...task, ...(accuracy && { validate }) },
        {
          checkpointEvery: EVERY,
          validateEvery: EVERY,
          keep: { last: 2 },
          ...(where && { folder: where }),
          ...(contents && { contents }),
          ...(saved && { resume: saved.path }),
          ...(signal && { signal }),
          onStep({ step, losses, milliseconds }) {
            pace += 0.05 * (milliseconds / 1000 / cost - pace);
            const mayEndEarly = task.isDone !== undefined;
            const secondsLeft = left(name, step);
            onProgress?.({ stage: name, step, steps: task.steps, mayEndEarly, losses, secondsLeft });
            return afterStep?.();
          },
          onValidation(step, { accuracy: part = 0 }) {
            onValidation?.({ stage: name, step, accuracy: part });
          },
        },
      );
      if (end === "stopped") throw new Stopped();
      done.push({ name, steps: step, seconds });
      return { seconds, reached: end === "early" || !task.isDone };
    },

    async score(arm, trainingSeconds, score) {
      if (signal?.aborted) throw new Stopped();
      const stage = `evaluating ${arm}` as const;
      onProgress?.({ stage, step: 0, steps: 0, mayEndEarly: false, losses: {}, secondsLeft: left(stage, 0) });
      const result = await score();
      const { accuracy, thoughts, seconds } = result;
      const details = "ablations" in result ? { details: result as unknown as ThoughtScore } : {};
      return { arm, accuracy, thoughts, seconds, trainingSeconds, ...details };
    },
  };
}
