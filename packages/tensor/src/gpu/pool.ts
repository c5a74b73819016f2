/** Device buffers by size class, so that a loop allocates once. Live bytes are exact and labelled. */
import { OutOfMemoryError } from "../errors.ts";
import { usage } from "./constants.ts";
import type { Faults } from "./faults.ts";

/** One GPU buffer of the pool. */
export interface DeviceBuffer {
  /** Never reused: bind groups are cached under it. */
  readonly id: number;
  readonly gpu: GPUBuffer;
  /** Bytes of the buffer, at least what was asked for. */
  readonly capacity: number;
  /** Bytes asked for, and by whom; both change when the buffer is handed out again. */
  bytes: number;
  label: string;
  /** The batch of commands that last used it; an upload must not overtake that batch. */
  batch: number;
  /** Whether the tape has held it for the way back. */
  saved: boolean;
  /** The device made it without memory behind it: it is never handed out again. */
  dead: boolean;
}

/** What {@link BufferPool.memory} reports, in bytes. */
export interface Memory {
  /** Held by tensors, to the byte that was asked for (rounded up to 4). */
  readonly live: number;
  /** The most that was ever live, or since it was last reset. */
  readonly peak: number;
  /** Kept for reuse. */
  readonly pooled: number;
  /** Live bytes by the kernel or the function that made them. */
  readonly labels: ReadonlyMap<string, number>;
}

/** Below this the pool never gives memory back: 64 MiB. */
const KEEP_BYTES = 2 ** 26;

export class BufferPool {
  readonly #gpu: GPUDevice;
  readonly #maxBytes: number;
  readonly #maxBuffers: number;
  readonly #free = new Map<number, DeviceBuffer[]>();
  readonly #labels = new Map<string, number>();
  readonly #faults: Faults;
  #created = 0;
  #existing = 0;
  #idle = 0;
  #live = 0;
  #peak = 0;
  #pooled = 0;

  /**
   * @param maxBytes    the largest buffer the device can make
   * @param maxBuffers  how many there may be, pooled ones included
   */
  constructor(gpu: GPUDevice, maxBytes: number, faults: Faults, maxBuffers = Infinity) {
    this.#gpu = gpu;
    this.#maxBytes = maxBytes;
    this.#maxBuffers = maxBuffers;
    this.#faults = faults;
  }

  /** Bytes of the class that serves `bytes`: eighths of a power of two, so at most an eighth is wasted. */
  #classOf(bytes: number): number {
    if (bytes <= 256) return 256;
    const step = 2 ** (Math.floor(Math.log2(bytes)) - 3);
    return Math.min(Math.ceil(bytes / step) * step, this.#maxBytes);
  }

  /** @throws {OutOfMemoryError} when no buffer of that size can be made */
  acquire(bytes: number, label: string): DeviceBuffer {
    const capacity = this.#classOf(bytes);
    if (bytes > capacity) {
      throw new OutOfMemoryError(
        `${label} asks for ${bytes} bytes; the largest buffer of this adapter has ${this.#maxBytes} (${this.#live} are live)`,
        bytes,
        this.#live,
      );
    }
    let buffer = this.#free.get(capacity)?.pop();
    if (buffer) {
      this.#pooled -= capacity;
      this.#idle--;
    } else buffer = this.#create(capacity, bytes, label);
    buffer.bytes = bytes;
    buffer.label = label;
    buffer.saved = false;
    this.#live += bytes;
    this.#peak = Math.max(this.#peak, this.#live);
    this.#labels.set(label, (this.#labels.get(label) ?? 0) + bytes);
    return buffer;
  }

  #create(capacity: number, bytes: number, label: string): DeviceBuffer {
    const live = this.#live;
    const refused = (why: string): OutOfMemoryError =>
      new OutOfMemoryError(
        `${label} asks for ${bytes} bytes, ${live} are live and ${this.#pooled} pooled: ${why}`,
        bytes,
        live,
      );
    if (this.#existing >= this.#maxBuffers) {
      throw refused(`there are ${this.#existing} buffers, and this adapter bears no more; free tensors sooner`);
    }
    try {
      const gpu = this.#faults.watch(
        "out-of-memory",
        () => this.#gpu.createBuffer({ size: capacity, usage: usage.STORAGE | usage.COPY_SRC | usage.COPY_DST }),
        (why) => {
          this.#bury(buffer);
          return refused(why);
        },
      );
      const buffer: DeviceBuffer = {
        id: ++this.#created,
        gpu,
        capacity,
        bytes,
        label,
        batch: -1,
        saved: false,
        dead: false,
      };
      this.#existing++;
      return buffer;
    } catch (cause) {
      throw Object.assign(refused(cause instanceof Error ? cause.message : String(cause)), { cause });
    }
  }

  /** Takes a buffer out of circulation for good. By the time this is known it may have gone from hand to hand. */
  #bury(buffer: DeviceBuffer): void {
    buffer.dead = true;
    this.#existing--;
    const list = this.#free.get(buffer.capacity);
    const at = list?.indexOf(buffer) ?? -1;
    if (at < 0) return;
    list?.splice(at, 1);
    this.#pooled -= buffer.capacity;
    this.#idle--;
  }

  /** Takes a buffer back. Commands recorded so far may still use it: whatever reuses it comes later in the queue. */
  release(buffer: DeviceBuffer): void {
    this.#live -= buffer.bytes;
    const left = (this.#labels.get(buffer.label) ?? 0) - buffer.bytes;
    if (left > 0) this.#labels.set(buffer.label, left);
    else this.#labels.delete(buffer.label);
    if (buffer.dead) return;
    this.#pooled += buffer.capacity;
    this.#idle++;
    const list = this.#free.get(buffer.capacity);
    if (list) list.push(buffer);
    else this.#free.set(buffer.capacity, [buffer]);
  }

  /**
   * Whether {@link trim} is due: more than 64 MiB are pooled and, with what is live, more than twice what was ever live at once;
   * or buffers run out. What a loop makes comes to more than its peak, since buffers of one size do not serve for another, and
   * between two rounds nothing of it may be live.
   */
  get overfull(): boolean {
    const scarce = this.#existing > 0.9 * this.#maxBuffers && this.#idle > 0.05 * this.#maxBuffers;
    return scarce || this.#pooled > Math.max(KEEP_BYTES, 2 * this.#peak - this.#live);
  }

  /** Destroys every pooled buffer. The caller has submitted all commands and forgets its bind groups. */
  trim(): void {
    for (const list of this.#free.values()) {
      for (const buffer of list) buffer.gpu.destroy();
      this.#existing -= list.length;
    }
    this.#free.clear();
    this.#pooled = 0;
    this.#idle = 0;
  }

  resetPeak(): void {
    this.#peak = this.#live;
  }

  memory(): Memory {
    return { live: this.#live, peak: this.#peak, pooled: this.#pooled, labels: new Map(this.#labels) };
  }
}
