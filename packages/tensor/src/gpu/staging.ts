/** Buffers that the CPU maps to read results back, reused by size. */
import { MAP_MODE_READ, usage } from "./constants.ts";
import type { Faults } from "./faults.ts";

export class Staging {
  readonly #gpu: GPUDevice;
  readonly #faults: Faults;
  readonly #free = new Map<number, GPUBuffer[]>();

  constructor(gpu: GPUDevice, faults: Faults) {
    this.#gpu = gpu;
    this.#faults = faults;
  }

  /** A buffer to copy `bytes` into. {@link take} empties it and keeps it. */
  acquire(bytes: number): GPUBuffer {
    const size = Math.max(256, 2 ** Math.ceil(Math.log2(bytes)));
    return (
      this.#free.get(size)?.pop() ??
      this.#gpu.createBuffer({ label: "readback", size, usage: usage.MAP_READ | usage.COPY_DST })
    );
  }

  /** The first `bytes` of a buffer, once the device has filled it. */
  async take(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    await this.#faults.settle(buffer.mapAsync(MAP_MODE_READ));
    const copy = buffer.getMappedRange(0, Math.ceil(bytes / 8) * 8).slice(0, bytes);
    buffer.unmap();
    // Large ones are rare and would only hold memory.
    if (buffer.size > 2 ** 24) buffer.destroy();
    else this.#free.set(buffer.size, [...(this.#free.get(buffer.size) ?? []), buffer]);
    return copy;
  }
}
