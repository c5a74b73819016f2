/** What a checkpoint's pickle can hold, as TypeScript values. */
import type { FileDType } from "@rot/tensor/safetensors";

/** A Python tuple or `torch.Size`. */
export class Tuple {
  readonly items: readonly PickleValue[];

  constructor(items: readonly PickleValue[]) {
    this.items = items;
  }
}

/** A `torch.dtype`, such as `torch.bfloat16`. */
export class TorchDType {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** A `torch.device`, such as `cuda:0`. */
export class TorchDevice {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** One of torch's storage classes. */
export class StorageType {
  readonly name: string;
  readonly dtype: FileDType;

  constructor(name: string, dtype: FileDType) {
    this.name = name;
    this.dtype = dtype;
  }
}

/** Bytes that tensors look at. Tensors that share memory in torch share one of these. */
export class TorchStorage {
  /** Its name in the container. */
  readonly key: string;
  /** Type of its elements; U8 for an untyped one. */
  readonly dtype: FileDType;
  /** Its size in bytes. */
  readonly bytes: number;

  constructor(key: string, dtype: FileDType, bytes: number) {
    this.key = key;
    this.dtype = dtype;
    this.bytes = bytes;
  }
}

/** A view of a storage. Offset and strides count elements, and were checked to stay inside the storage. */
export class TorchTensor {
  readonly storage: TorchStorage;
  readonly dtype: FileDType;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];

  constructor(
    storage: TorchStorage,
    dtype: FileDType,
    offset: number,
    shape: readonly number[],
    stride: readonly number[],
  ) {
    this.storage = storage;
    this.dtype = dtype;
    this.offset = offset;
    this.shape = shape;
    this.stride = stride;
  }
}

/** A function or class of the closed list. `call` builds the value that Python's would; nothing of Python is ever run. */
export class Callable {
  readonly name: string;
  readonly call: (parameters: readonly PickleValue[]) => PickleValue;

  constructor(name: string, call: (parameters: readonly PickleValue[]) => PickleValue) {
    this.name = name;
    this.call = call;
  }
}

/**
 * A value of a class that is not made: of DeepSpeed's bookkeeping, or, where a file is only looked at for its globals, of
 * any class that is not on the list. What it holds is read over.
 */
export class Opaque {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** A key of a dict as text. Tuples and other objects, which no checkpoint of tensors has, are not spelled out. */
export const keyText = (key: PickleValue): string =>
  typeof key === "object" && key !== null ? "(object)" : String(key);

/**
 * A value of a pickle: `None`, `bool`, `int` (a bigint beyond 2⁵³) and `float`, `str`, `bytes`, `list`, `tuple`,
 * `dict` and `OrderedDict` (a Map, so that `__proto__` is a key like any other), `set` and `frozenset`, and torch's own.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Tuple
  | Map<PickleValue, PickleValue>
  | Set<PickleValue>
  | TorchDType
  | TorchDevice
  | StorageType
  | TorchStorage
  | TorchTensor
  | Callable
  | Opaque;
