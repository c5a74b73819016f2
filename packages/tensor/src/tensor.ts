/// <reference lib="esnext.disposable" preserve="true" />
/** A tensor: a shape, a dtype, memory on a device, and how it was made. It knows no op; `methods.ts` gives it its methods. */
import { bits, byteLength, type DType, fromBf16, fromF16, type TypedArray } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { format } from "./format.ts";
import type { Device } from "./gpu/device.ts";
import { adopt, type Owned, type Scope, watchEscapes } from "./scope.ts";
import { type Dims, dims, print, type Shape, size } from "./shape.ts";
import { Storage } from "./storage.ts";
import type { Node } from "./tape.ts";

/** A shape and a dtype: what an output will be. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** What a handle holds; apart from the handle, so that the garbage collector can give it back. */
interface Holding {
  storage: Storage | null;
  node: Node | null;
  /** Which output of `node` it is. */
  output: number;
  /** Why there is no storage. */
  gone: string;
}

/** Values of the last read, for `toString`; only of small tensors. */
interface Remembered {
  readonly version: number;
  readonly values: ArrayLike<number>;
}

const REMEMBERED_ELEMENTS = 4096;

export class Tensor<D extends DType = DType> implements TensorSpec, Owned {
  readonly shape: Shape;
  readonly dtype: D;
  /** Elements. */
  readonly size: number;
  /** Where its first element lies in the storage, in bytes; other than 0 only of {@link rows}. */
  readonly offset: number;
  /** Which scope frees it. Set by the scopes themselves. */
  owner: Scope | null = null;
  readonly #holding: Holding;
  #remembered: Remembered | undefined;

  /** Made by {@link emptyTensor} and the ops. Takes over the caller's hold on `storage`. */
  constructor(spec: TensorSpec, storage: Storage | null, gone = "it was disposed", offset = 0) {
    this.shape = spec.shape;
    this.dtype = spec.dtype as D;
    this.size = size(spec.shape);
    this.offset = offset;
    this.#holding = { storage, node: null, output: 0, gone };
    if (storage) adopt(this);
  }

  /** Gives the garbage collector what to free if this tensor is dropped outside every scope. */
  static {
    const collected = new FinalizationRegistry<Holding>(drop);
    watchEscapes((owned) => {
      if (owned instanceof Tensor) collected.register(owned, owned.#holding);
    });
  }

  /**
   * @throws {UsageError} when the tensor was disposed
   * @throws {OutOfMemoryError} when the device reported, after it was made, that there was no room for it
   */
  get storage(): Storage {
    const { storage, gone } = this.#holding;
    if (!storage) throw new UsageError(`${this.#name()} cannot be used: ${gone}`);
    if (storage.buffer.dead) throw storage.deathNotice();
    return storage;
  }

  /** Whether the device had no room for it, which may be known only after it was made. */
  get isDead(): boolean {
    return this.#holding.storage?.buffer.dead === true;
  }

  get device(): Device {
    return this.storage.device;
  }

  get isDisposed(): boolean {
    return this.#holding.storage === null;
  }

  /** How the tape knows this tensor; null when no gradient flows through it. */
  get node(): Node | null {
    return this.#holding.node;
  }

  /** Ties the tensor to the tape. Called once, by the tape. */
  attach(node: Node, output = 0): void {
    if (this.#holding.node) throw new UsageError(`${this.#name()} is on the tape already`);
    this.#holding.node = node;
    this.#holding.output = output;
    node.retain();
  }

  /** Which output of its node this tensor is. */
  get output(): number {
    return this.#holding.output;
  }

  /** Whether gradients flow to or through this tensor. */
  get requiresGrad(): boolean {
    return this.#holding.node !== null;
  }

  /** The gradient that {@link backward} has gathered for this parameter. */
  get grad(): Tensor | null {
    return this.#holding.node?.grad ?? null;
  }

  /** Bytes of the elements on the device. */
  get bytes(): number {
    return byteLength(this.dtype, this.size);
  }

  get rank(): number {
    return this.shape.length;
  }

  /**
   * Names the axes: `x.dims("B L D")` is `{ B, L, D }`, typed and checked. `_` skips an axis, a leading `...` any number.
   *
   * @throws {ShapeError} when the rank or a repeated name does not fit
   */
  dims<const S extends string>(names: S): Dims<S> {
    return dims(this.shape, names);
  }

  /** Another handle on the same memory, off the tape, perhaps under another shape of the same size. */
  alias(shape: Shape = this.shape): Tensor<D> {
    return new Tensor<D>({ shape, dtype: this.dtype }, this.storage.retain(), undefined, this.offset);
  }

  /**
   * Another handle on the rows from `begin` up to `end` of the first axis: the same memory, off the tape. One kernel call
   * cannot read some rows of a storage and write others.
   *
   * @throws {ShapeError} when they are not rows of it
   * @throws {UsageError} when the first of them does not lie at a multiple of 256 bytes, where WebGPU lets a binding begin,
   *   or the last ends in the middle of a word
   */
  rows(begin: number, end: number): Tensor<D> {
    const [length, ...rest] = this.shape;
    const areWhole = Number.isInteger(begin) && Number.isInteger(end);
    if (length === undefined || !(areWhole && begin >= 0 && begin <= end && end <= length)) {
      throw new ShapeError(`rows: ${print(this.shape)} has no rows ${begin} to ${end}`);
    }
    const rowBytes = (size(rest) * bits(this.dtype)) / 8;
    // No rows lie nowhere: past the end there may be no memory to bind.
    const offset = this.offset + (begin === end ? 0 : begin * rowBytes);
    if (offset % 256 !== 0) {
      throw new UsageError(`rows: row ${begin} of ${this.#name()} lies at byte ${offset}, no multiple of 256`);
    }
    if (end < length && (end * rowBytes) % 4 !== 0) {
      throw new UsageError(`rows: row ${end} of ${this.#name()} begins in the middle of a word`);
    }
    return new Tensor<D>(
      { shape: [end - begin, ...rest], dtype: this.dtype },
      this.storage.retain(),
      undefined,
      offset,
    );
  }

  /** The same shape and dtype without the memory: what the tape keeps of an input that its gradient does not read. */
  ghost(reader: string): Tensor {
    return new Tensor(this, null, `${reader} did not save it`);
  }

  /** Gives the memory back as soon as nobody else holds it. Disposing twice is allowed. */
  dispose(): void {
    this.owner = null;
    drop(this.#holding);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * The values, in row-major order.
   *
   * @returns f32, f16 and bf16 as a Float32Array, i32 and u32 as their own, bool as a Uint8Array of 0 and 1
   * @throws {KernelError | OutOfMemoryError | DeviceLostError} whatever went wrong on the device since the last wait
   */
  async read(): Promise<TypedArray<D>> {
    const { storage } = this;
    const { version } = storage;
    const bytes =
      this.size === 0 ? new ArrayBuffer(0) : await storage.device.read(storage.buffer, this.bytes, this.offset);
    const values = widen(this.dtype, bytes, this.size) as TypedArray<D>;
    if (this.size <= REMEMBERED_ELEMENTS) this.#remembered = { version, values: values.slice() };
    return values;
  }

  /**
   * The one value of a tensor with one element.
   *
   * @throws {UsageError} when there are more or none
   */
  async item(): Promise<number> {
    if (this.size !== 1) throw new UsageError(`item: ${this.#name()} has ${this.size} elements, not one`);
    return (await this.read())[0] as number;
  }

  /** The values as NumPy would print them. */
  async text(): Promise<string> {
    return format(await this.read(), this.shape, this.dtype);
  }

  /** As {@link text} if the values have been read since they last changed; otherwise shape and dtype. */
  toString(): string {
    const { storage } = this.#holding;
    if (storage && this.#remembered?.version === storage.version) {
      return format(this.#remembered.values, this.shape, this.dtype);
    }
    return `${this.#name()} (${storage ? "on the device; await x.text() shows its values" : this.#holding.gone})`;
  }

  /** How `console.log` shows it in Node. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  #name(): string {
    return `tensor ${print(this.shape)} ${this.dtype}`;
  }
}

function drop(holding: Holding): void {
  holding.storage?.release();
  holding.storage = null;
  holding.node?.release();
  holding.node = null;
}

/** Device memory of a shape and dtype, with whatever values were there. */
export function emptyTensor(device: Device, spec: TensorSpec, label: string): Tensor {
  return new Tensor(spec, new Storage(device, Math.max(4, byteLength(spec.dtype, size(spec.shape))), label));
}

/** Bytes as they lie on the device, as the array that {@link Tensor.read} gives. */
function widen(dtype: DType, bytes: ArrayBuffer, count: number): TypedArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes);
    case "i32":
      return new Int32Array(bytes);
    case "u32":
      return new Uint32Array(bytes);
    case "bool":
      return Uint8Array.from(new Uint32Array(bytes));
    case "f16":
    case "bf16": {
      const halves = new Uint16Array(bytes).subarray(0, count);
      const wide = dtype === "bf16" ? fromBf16 : fromF16;
      return Float32Array.from(halves, wide);
    }
  }
}
