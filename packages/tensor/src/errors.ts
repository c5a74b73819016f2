/** The errors this package throws. Each says who, what came, and what was wanted. */

/** A shape, rank, axis or dtype that does not fit. */
export class ShapeError extends Error {
  override readonly name: string = "ShapeError";
}

/** A tensor file that is damaged, hostile or lacks what was asked of it. */
export class WeightError extends Error {
  override readonly name: string = "WeightError";
}

/** A mistake in how the library is called: a disposed tensor, a second backward, an unknown option. */
export class UsageError extends Error {
  override readonly name: string = "UsageError";
}

/** Something the device refused or failed to do. */
export class DeviceError extends Error {
  override readonly name: string = "DeviceError";
  /** True when the same work may succeed on a fresh device. */
  readonly retryable: boolean = false;
}

/** A kernel that did not compile or was dispatched against the rules of WebGPU. */
export class KernelError extends DeviceError {
  override readonly name: string = "KernelError";
}

/** The device had no room. `asked` and `live` are in bytes. */
export class OutOfMemoryError extends DeviceError {
  override readonly name: string = "OutOfMemoryError";
  /** Bytes of the buffer that could not be made. */
  readonly asked: number;
  /** Bytes that tensors of this device held at that moment. */
  readonly live: number;

  constructor(message: string, asked: number, live: number) {
    super(message);
    this.asked = asked;
    this.live = live;
  }
}

/** The device is gone: destroyed, unplugged or reset. Whatever it held is lost; open another one and go on from a checkpoint. */
export class DeviceLostError extends DeviceError {
  override readonly name: string = "DeviceLostError";
  override readonly retryable: boolean = true;
}
