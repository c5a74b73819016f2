/** Recognises a base model, so that adapters are not put on another one in silence. Node only. */
import { createHash } from "node:crypto";
import type { Checkpoint, Description } from "@rot/models";

/** Bytes of each tensor that are hashed: enough to tell two trainings of one architecture apart, and read in no time. */
const SAMPLED = 256;

/** SHA-256 of what a configuration means, whichever transformers wrote it. */
export const configHash = ({ config }: Description): string =>
  createHash("sha256").update(JSON.stringify(config)).digest("hex");

/** SHA-256 of the names, dtypes, shapes and first bytes of all tensors, in the order of their names. */
export async function weightsHash({ tensors }: Checkpoint): Promise<string> {
  const hash = createHash("sha256");
  for (const name of [...tensors.keys()].toSorted()) {
    const { entry, file } = tensors.get(name) as NonNullable<ReturnType<typeof tensors.get>>;
    hash.update(JSON.stringify([name, entry.dtype, entry.shape]));
    hash.update(await file.readRange(name, 0, Math.min(SAMPLED, entry.end - entry.begin)));
  }
  return hash.digest("hex");
}
