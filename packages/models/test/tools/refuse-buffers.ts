import { type Device, OutOfMemoryError } from "@rot/tensor";
import { expect } from "@rot/tensor/testing";

/** Runs `f`, which is to say that memory ended, on a device that refuses the nth buffer from now on. */
export function refusing(device: Device, nth: number, f: () => unknown): void {
  const acquire = device.acquire.bind(device);
  let count = 0;
  device.acquire = (bytes, label) => {
    if (++count === nth) throw new OutOfMemoryError("injected", bytes, 0);
    return acquire(bytes, label);
  };
  try {
    expect(f, `buffer ${nth}`).toThrow(OutOfMemoryError);
  } finally {
    device.acquire = acquire;
  }
}
