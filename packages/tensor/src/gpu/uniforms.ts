/**
 * One ring of uniforms: each dispatch takes the next slots, and a batch of them is uploaded in one write. Every slot is a
 * bind group of its own. A moving offset would need but one group; lavapipe, however, copies the whole group at each
 * dispatch into memory that it maps for the purpose, which takes longer than a small kernel.
 */
import { STAGE_COMPUTE, usage } from "./constants.ts";

const SLOTS = 1024;
/** The alignment that every adapter allows. */
const SLOT_BYTES = 256;

/** What binds structs of one length in slots. */
interface Kind {
  readonly layout: GPUBindGroupLayout;
  /** By the first slot. */
  readonly groups: GPUBindGroup[];
}

const slotsOf = (bytes: number): number => Math.ceil(bytes / SLOT_BYTES);

export class Uniforms {
  readonly #gpu: GPUDevice;
  readonly #buffer: GPUBuffer;
  readonly #data = new ArrayBuffer(SLOTS * SLOT_BYTES);
  readonly #u32 = new Uint32Array(this.#data);
  readonly #i32 = new Int32Array(this.#data);
  readonly #f32 = new Float32Array(this.#data);
  /** By their length in slots. */
  readonly #kinds: Kind[] = [];
  /** Slots. */
  #used = 0;

  constructor(gpu: GPUDevice) {
    this.#gpu = gpu;
    const size = SLOTS * SLOT_BYTES;
    this.#buffer = gpu.createBuffer({ label: "uniforms", size, usage: usage.UNIFORM | usage.COPY_DST });
  }

  /** How a struct of so many bytes is bound, as the only one of its group. */
  layout(bytes: number): GPUBindGroupLayout {
    return this.#kind(slotsOf(bytes)).layout;
  }

  #kind(slots: number): Kind {
    const known = this.#kinds[slots];
    if (known) return known;
    const buffer = { type: "uniform", minBindingSize: slots * SLOT_BYTES } as const;
    const layout = this.#gpu.createBindGroupLayout({
      label: "uniforms",
      entries: [{ binding: 0, visibility: STAGE_COMPUTE, buffer }],
    });
    return (this.#kinds[slots] = { layout, groups: [] });
  }

  /** Whether a struct of so many bytes still fits into this batch. */
  fits(bytes: number): boolean {
    return this.#used + slotsOf(bytes) <= SLOTS;
  }

  /** Writes one struct of 4-byte members and gives what binds it. */
  push(types: readonly ("u32" | "i32" | "f32")[], values: readonly number[], bytes: number): GPUBindGroup {
    const slot = this.#used;
    for (let i = 0, at = (slot * SLOT_BYTES) / 4; i < types.length; i++, at++) {
      const value = values[i] as number;
      if (types[i] === "u32") this.#u32[at] = value;
      else if (types[i] === "i32") this.#i32[at] = value;
      else this.#f32[at] = value;
    }
    const slots = slotsOf(bytes);
    this.#used += slots;
    const { groups, layout } = this.#kind(slots);
    return (groups[slot] ??= this.#gpu.createBindGroup({
      label: "uniforms",
      layout,
      entries: [
        {
          binding: 0,
          resource: { buffer: this.#buffer, offset: slot * SLOT_BYTES, size: slots * SLOT_BYTES },
        },
      ],
    }));
  }

  /** Sends what the batch has written; the queue orders it before the batch and after the one before. */
  upload(): void {
    if (this.#used > 0) this.#gpu.queue.writeBuffer(this.#buffer, 0, this.#data, 0, this.#used * SLOT_BYTES);
    this.#used = 0;
  }
}
