/** The memory behind tensors: counted, versioned, and given back to the pool by the last who holds it. */
import { OutOfMemoryError } from "./errors.ts";
import type { Device } from "./gpu/device.ts";
import type { DeviceBuffer } from "./gpu/pool.ts";

export class Storage {
  readonly device: Device;
  readonly buffer: DeviceBuffer;
  /** Counts changes in place, so that a gradient never reads a value that was overwritten. */
  version = 0;
  #holders = 1;

  constructor(device: Device, bytes: number, label: string) {
    this.device = device;
    this.buffer = device.acquire(bytes, label);
  }

  /** Whether more than one holds it, so that a change in place would be seen elsewhere. */
  get isShared(): boolean {
    return this.#holders > 1;
  }

  /** What to throw when the device had no room for it. */
  deathNotice(): OutOfMemoryError {
    const { bytes, label } = this.buffer;
    const { live } = this.device.memory();
    const what = `a tensor made by ${label} cannot be used: the device had no room for its ${bytes} bytes`;
    return new OutOfMemoryError(what, bytes, live);
  }

  retain(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) this.device.release(this.buffer);
  }
}
