/** Buffers that the CPU maps to read results back, reused by size. */
import { OutOfMemoryError } from "../errors.ts";
import { MAP_MODE_READ, usage } from "./constants.ts";
import type { Faults } from "./faults.ts";

export class Staging {
  readonly #gpu: GPUDevice;
  readonly #faults: Faults;
  readonly #live: () => number;
  readonly #free = new Map<number, GPUBuffer[]>();

  /** @param live  bytes that tensors hold, for errors */
  constructor(gpu: GPUDevice, faults: Faults, live: () => number) {
    this.#gpu = gpu;
    this.#faults = faults;
    this.#live = live;
  }

  /**
   * A buffer to copy `bytes` into. {@link take} empties it and keeps it.
   *
   * @throws {OutOfMemoryError} when there is none and none can be made
   */
  acquire(bytes: number): GPUBuffer {
    const size = Math.max(256, 2 ** Math.ceil(Math.log2(bytes)));
    return this.#free.get(size)?.pop() ?? this.#create(size, bytes);
  }

  #create(size: number, bytes: number): GPUBuffer {
    const live = this.#live();
    const refused = (why: string): OutOfMemoryError =>
      new OutOfMemoryError(`readback asks for ${bytes} bytes, ${live} are live: ${why}`, bytes, live);
    try {
      const make = (): GPUBuffer =>
        this.#gpu.createBuffer({ label: "readback", size, usage: usage.MAP_READ | usage.COPY_DST });
      return this.#faults.watch("out-of-memory", make, refused);
    } catch (cause) {
      throw Object.assign(refused(cause instanceof Error ? cause.message : String(cause)), { cause });
    }
  }

  /** The first `bytes` of a buffer, once the device has filled it. */
  async take(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    try {
      await this.#faults.settle(buffer.mapAsync(MAP_MODE_READ));
    } catch (error) {
      buffer.destroy(); // mapped, or never to be
      throw error;
    }
    const copy = buffer.getMappedRange(0, Math.ceil(bytes / 8) * 8).slice(0, bytes);
    buffer.unmap();
    // Large ones are rare and would only hold memory.
    const free = this.#free.get(buffer.size);
    if (buffer.size > 2 ** 24) buffer.destroy();
    else if (free) free.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
    return copy;
  }
}
