/** A device that computes nothing and holds nothing: it says what a program would ask of the real one. */
import type { AdapterKind } from "./adapter.ts";
import { Device, type DeviceSettings, type Dispatch, type Limits } from "./device.ts";
import type { Pipeline, PipelineSource } from "./pipelines.ts";
import type { DeviceBuffer } from "./pool.ts";

/** The most that was live at one time since {@link Rehearsal.mark}, in bytes. */
export interface Peak {
  readonly bytes: number;
  /** Of these, what stood already at the mark. */
  readonly standing: number;
  /** Of these, what came since and the tape held for the way back. */
  readonly saved: number;
}

/** What a real device would be made with. */
export interface RehearsedAdapter {
  readonly kind: AdapterKind;
  readonly info: GPUAdapterInfo;
  readonly features: ReadonlySet<string>;
  readonly limits: Readonly<Limits>;
}

/**
 * Does the accounting of a device, choice of kernels included, and nothing else: dispatches and uploads vanish, and whatever is
 * read back is zeros. So a program that runs on it allocates as it would on the adapter, whatever its model weighs.
 */
export class Rehearsal extends Device {
  readonly #memory: NoMemory;
  readonly #held = new Set<DeviceBuffer>();
  #standing: ReadonlySet<DeviceBuffer> = new Set();
  #live = 0;
  #peak: Peak = { bytes: 0, standing: 0, saved: 0 };

  /** Made by `openRehearsal`. */
  constructor(adapter: RehearsedAdapter, settings: DeviceSettings) {
    const memory = new NoMemory(adapter);
    super(memory as unknown as GPUDevice, {} as GPU, adapter.kind, adapter.info, { ...settings, debug: 0 });
    this.#memory = memory;
  }

  override get computes(): boolean {
    return false;
  }

  /** Bytes of all buffers that would exist, and the most there were at one time: live ones, and the pool's for reuse. */
  get allocated(): { readonly bytes: number; readonly peak: number } {
    const { bytes, peak } = this.#memory;
    return { bytes, peak };
  }

  /** Begins to look for a new peak. */
  mark(): void {
    this.#standing = new Set(this.#held);
    this.#note();
  }

  /** The peak since the last mark. */
  get peak(): Peak {
    return this.#peak;
  }

  #note(): void {
    let [standing, saved] = [0, 0];
    for (const buffer of this.#held) {
      if (this.#standing.has(buffer)) standing += buffer.bytes;
      else if (buffer.saved) saved += buffer.bytes;
    }
    this.#peak = { bytes: this.#live, standing, saved };
  }

  override acquire(bytes: number, label: string): DeviceBuffer {
    const buffer = super.acquire(bytes, label);
    this.#held.add(buffer);
    this.#live += bytes;
    if (this.#live > this.#peak.bytes) this.#note();
    return buffer;
  }

  override release(buffer: DeviceBuffer): void {
    this.#held.delete(buffer);
    this.#live -= buffer.bytes;
    super.release(buffer);
  }

  override pipeline({ name, uniformBytes }: PipelineSource): Pipeline {
    return { ...nothing, id: 0, name, uniformBytes, fault: undefined };
  }

  override record(_: Dispatch): void {}

  override flush(): void {}

  override async sync(): Promise<void> {}

  override upload(): void {}

  override async read(_: DeviceBuffer, bytes: number): Promise<ArrayBuffer> {
    return new ArrayBuffer(bytes);
  }
}

/** What nobody asks of a pipeline that is never run. */
const nothing = {} as Pick<Pipeline, "gpu" | "layout">;

/** As much of WebGPU's device as is used without work for it: buffers that are only counted. */
class NoMemory {
  readonly features: ReadonlySet<string>;
  readonly limits: Readonly<Limits>;
  readonly lost = new Promise<never>(() => {});
  bytes = 0;
  peak = 0;

  constructor({ features, limits }: RehearsedAdapter) {
    this.features = features;
    this.limits = limits;
  }

  createBuffer({ size }: GPUBufferDescriptor): { destroy(): void } {
    this.bytes += size;
    this.peak = Math.max(this.peak, this.bytes);
    return { destroy: () => void (this.bytes -= size) };
  }

  pushErrorScope(): void {}

  async popErrorScope(): Promise<null> {
    return null;
  }

  addEventListener(): void {}

  destroy(): void {}
}
