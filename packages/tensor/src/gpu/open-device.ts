/** Opening a device: an adapter from the platform, with all the features and limits the engine can use. */
import { platform } from "#platform";
import { DeviceError } from "../errors.ts";
import type { FoundAdapter } from "./adapter.ts";
import { Device, type DeviceSettings, limitNames, type Limits } from "./device.ts";
import { Rehearsal } from "./rehearsal.ts";
import { type AdapterIdentity, type Tuned, type TuneMode, Tunings } from "./tunings.ts";

/** What {@link openDevice} may be told. */
export interface DeviceOptions {
  /** Part of the adapter's name, or `hardware`, `software`, `embedded`; by default the best there is. */
  readonly adapter?: string | undefined;
  /** False refuses to download a software adapter where no other is found. */
  readonly download?: boolean;
  /** 0 silent · 1 the device · 2 each kernel's time and GB/s · 3 the tuner · 4 the WGSL */
  readonly debug?: number;
  /**
   * `off` uses the settings that kernels prefer, `cached` (as does no word) those that the tuner has stored for this
   * adapter, `full` also lets a tuner see the calls it knows nothing of.
   */
  readonly tune?: TuneMode;
  /** `reference` runs every op by its definition in primitives, to tell a bug in the maths from one in a kernel. */
  readonly kernels?: "fused" | "reference";
  /**
   * `f16` lets matrix products, those of gradients too, round their operands to f16 and multiply them there; sums are kept
   * in f32. Faster on GPUs, and as precise as under PyTorch's `autocast(dtype=torch.float16)`: values beyond 65,504 become
   * infinite. `f32` by default.
   */
  readonly arithmetic?: "f32" | "f16";
  /** Lower limits than the adapter's, to test what a smaller one would do. */
  readonly limits?: Partial<Limits>;
  /** Features to leave off. */
  readonly without?: readonly GPUFeatureName[];
  /** Receives the lines that would go to stderr. */
  readonly notice?: (line: string) => void;
}

/**
 * Opens a device.
 *
 * @throws {DeviceError} when no adapter serves, the message says what was tried; or when it lacks what `arithmetic` asks for
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  const { found, features, limits, settings } = await prepare(options);
  const { gpu: root, adapter, kind } = found;
  const gpu = await adapter.requestDevice({ label: "rot", requiredFeatures: features, requiredLimits: limits });
  return new Device(gpu, root, kind, adapter.info, settings);
}

/**
 * Opens a device to rehearse on, which decides and counts as the one that {@link openDevice} would open, and computes nothing.
 *
 * @throws {DeviceError} as {@link openDevice}
 */
export async function openRehearsal(options: DeviceOptions = {}): Promise<Rehearsal> {
  const { found, features, limits, settings } = await prepare(options);
  const { info } = found.adapter;
  return new Rehearsal({ kind: found.kind, info, features: new Set<string>(features), limits }, settings);
}

interface Prepared {
  readonly found: FoundAdapter;
  readonly features: GPUFeatureName[];
  readonly limits: Record<keyof Limits, number>;
  readonly settings: DeviceSettings;
}

/** An adapter, and what a device is to be asked of it. */
async function prepare(options: DeviceOptions): Promise<Prepared> {
  const { wishes } = platform;
  const notice = options.notice ?? ((line: string) => platform.notice(line));
  const found = await platform.requestAdapter({
    adapter: options.adapter ?? wishes.adapter,
    download: options.download ?? wishes.download,
    notice,
  });
  const { adapter } = found;
  if (options.arithmetic === "f16" && (!adapter.features.has("shader-f16") || without("shader-f16", options))) {
    const name = adapter.info.description || adapter.info.device || "the adapter";
    throw new DeviceError(`arithmetic is f16, but ${name} has no shader-f16; leave it at f32`);
  }
  const features = wanted.filter((feature) => adapter.features.has(feature) && !without(feature, options));
  const limits = {} as Record<keyof Limits, number>;
  for (const name of limitNames) limits[name] = adapter.limits[name];
  const mode = options.tune ?? wishes.tune;
  const stored = mode === "off" ? null : await platform.tunings?.load(identityOf(adapter.info), notice);
  const tunings = new Tunings(mode, stored ?? []);
  return { found, features, limits, settings: { ...options, debug: options.debug ?? wishes.debug, tunings, notice } };
}

/**
 * Stores choices of the tuner for the adapter of a device.
 *
 * @param forget  kernels of which entries with another source are dropped
 * @returns       the file; null on a platform that has no place for it
 */
export const saveTunings = async (
  { info }: Device,
  choices: readonly Tuned[],
  forget?: ReadonlySet<string>,
): Promise<string | null> => (await platform.tunings?.save(identityOf(info), choices, forget)) ?? null;

const identityOf = ({ vendor, architecture, device, description }: GPUAdapterInfo): AdapterIdentity => ({
  vendor,
  architecture,
  device,
  description,
});

/** The features the engine can use, asked for where the adapter has them. */
const wanted = [
  "shader-f16",
  "subgroups",
  "subgroup-size-control",
  "timestamp-query",
  "chromium-experimental-subgroup-matrix",
] as GPUFeatureName[];

/** Whether a feature is left off: by itself, or because it would turn on `subgroups`, which is. */
const without = (feature: string, { without = [] }: DeviceOptions): boolean =>
  (without as readonly string[]).some(
    (off) => feature === off || (off === "subgroups" && feature.includes("subgroup")),
  );
