/** One ring of uniforms: each dispatch takes the next slot, and a batch of them is uploaded in one write. */
import { usage } from "./constants.ts";

/** Bytes of the ring: 1024 slots of 256 bytes. */
const RING_BYTES = 2 ** 18;

export class Uniforms {
  readonly buffer: GPUBuffer;
  readonly #queue: GPUQueue;
  readonly #alignment: number;
  readonly #data = new ArrayBuffer(RING_BYTES);
  readonly #u32 = new Uint32Array(this.#data);
  readonly #i32 = new Int32Array(this.#data);
  readonly #f32 = new Float32Array(this.#data);
  #used = 0;

  constructor(gpu: GPUDevice) {
    this.#queue = gpu.queue;
    this.#alignment = gpu.limits.minUniformBufferOffsetAlignment;
    this.buffer = gpu.createBuffer({ label: "uniforms", size: RING_BYTES, usage: usage.UNIFORM | usage.COPY_DST });
  }

  /** Whether a struct of so many bytes still fits into this batch. */
  fits(bytes: number): boolean {
    return this.#used + Math.ceil(bytes / this.#alignment) * this.#alignment <= RING_BYTES;
  }

  /** Writes one struct of 4-byte members and gives its offset in bytes. */
  push(types: readonly ("u32" | "i32" | "f32")[], values: readonly number[], bytes: number): number {
    const offset = this.#used;
    for (let i = 0, at = offset / 4; i < types.length; i++, at++) {
      const value = values[i] as number;
      if (types[i] === "u32") this.#u32[at] = value;
      else if (types[i] === "i32") this.#i32[at] = value;
      else this.#f32[at] = value;
    }
    this.#used += Math.ceil(bytes / this.#alignment) * this.#alignment;
    return offset;
  }

  /** Sends what the batch has written; the queue orders it before the batch and after the one before. */
  upload(): void {
    if (this.#used > 0) this.#queue.writeBuffer(this.buffer, 0, this.#data, 0, this.#used);
    this.#used = 0;
  }
}
