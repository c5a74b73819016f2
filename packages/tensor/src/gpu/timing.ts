/** How long each dispatch takes on the device, by timestamp queries. */
import { usage } from "./constants.ts";

/** One dispatch, as the device timed it. */
export interface KernelTime {
  readonly kernel: string;
  readonly milliseconds: number;
  /** Bytes of the tensors it was bound to: what it moves if it touches each once. */
  readonly bytes: number;
}

/** The most dispatches that one batch holds. */
const CAPACITY = 2048;

export class Timing {
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  #open: { kernel: string; bytes: number }[] = [];

  constructor(gpu: GPUDevice) {
    this.#queries = gpu.createQuerySet({ type: "timestamp", count: 2 * CAPACITY });
    this.#resolved = gpu.createBuffer({
      label: "timing",
      size: 16 * CAPACITY,
      usage: usage.QUERY_RESOLVE | usage.COPY_SRC,
    });
  }

  get isEmpty(): boolean {
    return this.#open.length === 0;
  }

  /** What makes a compute pass write its times. */
  writes(kernel: string, bytes: number): GPUComputePassTimestampWrites {
    const at = 2 * this.#open.push({ kernel, bytes }) - 2;
    return { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** Ends a batch: records the copy of its times to `staging` and says how to read them. */
  collect(encoder: GPUCommandEncoder, acquire: (bytes: number) => GPUBuffer) {
    const timed = this.#open;
    this.#open = [];
    const bytes = 16 * timed.length;
    const staging = acquire(bytes);
    encoder.resolveQuerySet(this.#queries, 0, 2 * timed.length, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, bytes);
    const parse = (copy: ArrayBuffer): KernelTime[] => {
      const ticks = new BigUint64Array(copy);
      return timed.map(({ kernel, bytes }, i) => {
        const nanoseconds = Number((ticks[2 * i + 1] as bigint) - (ticks[2 * i] as bigint));
        return { kernel, bytes, milliseconds: nanoseconds / 1e6 };
      });
    };
    return { staging, bytes, parse };
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
  }
}
