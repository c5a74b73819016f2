/** The memory behind tensors: counted, versioned, and given back to the pool by the last who holds it. */
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

  retain(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) this.device.release(this.buffer);
  }
}
