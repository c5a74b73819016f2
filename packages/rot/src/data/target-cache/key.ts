/** Names of targets: a hash of all that they depend on. */
import type { ImageProcessorConfig } from "@rot/models";
import type { Tensor } from "@rot/tensor";
import type { Strip } from "../../render/strip.ts";
import type { Encoding } from "../../render/vision.ts";

/** Counts up when the same strip, tower and settings would give other targets, so that older entries are not found. */
const COMPUTATION = 1;

/** What a target depends on besides the strip. */
export interface TargetSettings {
  /** See {@link towerKey}. */
  readonly tower: string;
  readonly encoding: Encoding;
  readonly processor: ImageProcessorConfig;
}

/**
 * The key of a strip's targets: of its pixels, so that whatever changes how text is drawn changes the key.
 *
 * @returns 64 hexadecimal digits
 */
export async function targetKey(strip: Strip, { tower, encoding, processor }: TargetSettings): Promise<string> {
  const { width, height, channels, data } = strip;
  const settings = { computation: COMPUTATION, tower, encoding, processor: sorted(processor), width, height, channels };
  return sha256([JSON.stringify(settings), await sha256([data])]);
}

/**
 * The key of a vision tower: of its weights, its config and the GPU, on which the last bits depend. It reads all of the
 * tower's weights back, so it is made once a run; it holds as long as the tower is frozen.
 *
 * @param weights  by state-dict key; those of the tower begin with `model.visual.`
 * @param config   the tower's, as `parseQwen3VlConfig` gives it
 * @returns 64 hexadecimal digits
 */
export async function towerKey(weights: ReadonlyMap<string, Tensor>, config: object): Promise<string> {
  const parts: string[] = [JSON.stringify(sorted(config))];
  for (const name of [...weights.keys()].filter((one) => one.startsWith("model.visual.")).toSorted()) {
    const weight = weights.get(name)!;
    if (parts.length === 1) {
      const { vendor, architecture, device, description } = weight.device.info;
      parts.push(JSON.stringify({ vendor, architecture, device, description }));
    }
    const values = await weight.read();
    const bytes = new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength);
    parts.push(JSON.stringify([name, weight.dtype, weight.shape]), await sha256([bytes]));
  }
  return sha256(parts);
}

/** SHA-256 in hexadecimal, of parts none of which can be taken for a part of its neighbour: each is hashed on its own. */
async function sha256(parts: readonly (string | Uint8Array)[]): Promise<string> {
  const bytes = parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part));
  const digests = await Promise.all(bytes.map(async (part) => digest(part)));
  return digests.length === 1 ? digests[0]! : digest(new TextEncoder().encode(digests.join("")));
}

async function digest(bytes: Uint8Array): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An object with its names in order: configs that say the same must not differ. */
const sorted = (value: object): object =>
  Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
