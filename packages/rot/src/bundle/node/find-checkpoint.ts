/** Which folder is meant by the path of a checkpoint or of a run. Node only. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { readJson } from "@rot/models/node";
import { isThere } from "../../node/paths.ts";
import { checkpointPath, latestCheckpoint, listCheckpoints } from "../../train/checkpoint-folder.ts";
import { trainingFiles } from "../../train/training-state.ts";
import { BundleError } from "../config.ts";
import { bundleFiles } from "./contents.ts";
import { nothingAt } from "./model-folder.ts";

/** How {@link findCheckpoint} chooses. */
export interface FindOptions {
  /** Of a run's checkpoints: the best by validation, or the latest; without any validation that is the best. */
  readonly checkpoint?: "best" | "latest" | undefined;
  /** Told of checkpoints that are damaged and passed over. */
  readonly warn?: (message: string) => void;
}

/** Where a run of several stages has them, the last first. */
const stages = ["stage2", "stage1"];

/**
 * The checkpoint at a path: the folder itself, or of a run's folder (its last stage, where it has several) the best by
 * validation, or the latest that is whole.
 *
 * @throws {BundleError} when there is none, with those that are near
 */
export async function findCheckpoint(
  path: string,
  { checkpoint = "best", warn = () => {} }: FindOptions,
): Promise<string> {
  const exists = await isThere(path);
  if (exists && (await isThere(join(path, bundleFiles.config)))) return path;
  for (const run of [path, ...stages.map((stage) => join(path, stage))]) {
    const parent = join(run, "checkpoints");
    const latest = await latestCheckpoint(parent, warn);
    if (latest) return checkpoint === "best" ? await bestOf(parent, latest.path, warn) : latest.path;
  }
  throw new BundleError(await whyNone(path, exists));
}

/** The checkpoint that the latest one knows to be the best, or the latest itself. */
async function bestOf(parent: string, latest: string, warn: (message: string) => void): Promise<string> {
  const state = join(latest, trainingFiles.state);
  if (!(await isThere(state))) return latest;
  const { best } = (await readJson(state)) as { readonly best?: { readonly step?: unknown } | null };
  if (!best) return latest;
  const step = (await listCheckpoints(parent)).find((one) => one === best.step);
  if (step !== undefined) return checkpointPath(parent, step);
  warn(`the best checkpoint of ${parent}, step ${String(best.step).slice(0, 20)}, is not there; the latest is used`);
  return latest;
}

async function whyNone(path: string, exists: boolean): Promise<string> {
  if (!exists) return nothingAt(path);
  const names = await readdir(path).catch(() => []);
  const runs: string[] = [];
  for (const name of names) if (await isThere(join(path, name, "checkpoints"))) runs.push(join(path, name));
  if (runs.length > 0) return `${path} holds several runs; name one of them: ${runs.slice(0, 10).join(", ")}`;
  if (names.some((name) => /^global_step\d+$|^projection_head\.bin$/.test(name))) {
    return `${path} is a checkpoint of the published code, which this command does not open: make a run of it with rot-cli convert import`;
  }
  return `${path} is no checkpoint (no ${bundleFiles.config}), no run (no checkpoints/) and no model (no config.json)`;
}
