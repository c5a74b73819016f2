/** The closed list of classes and functions that a checkpoint of tensors needs, and what each builds. */
import { fileDTypeBits } from "@rot/tensor/safetensors";
import { storageTypes, torchDTypes } from "./dtypes.ts";
import { type Fail, quote } from "./error.ts";
import {
  Callable,
  Opaque,
  type PickleValue,
  StorageType,
  TorchDevice,
  TorchDType,
  TorchStorage,
  TorchTensor,
  Tuple,
} from "./values.ts";

/** More axes than any tensor has; torch itself stops at 64. */
const mostAxes = 64;

/** Classes beside the tensors of DeepSpeed's optimizer states. Their names are all that is read of them. */
const inert = [
  "deepspeed.runtime.fp16.loss_scaler.LossScaler",
  "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
  "deepspeed.runtime.zero.config.ZeroStageEnum",
  "deepspeed.utils.tensor_fragment.fragment_address",
];

/**
 * What a global stands for; undefined when it is not on the list.
 *
 * @param name `module.name`
 * @param fail called when one of them is given what it cannot take
 */
export function makeGlobals(fail: Fail): (name: string) => PickleValue | undefined {
  const known = new Map<string, PickleValue>();
  const define = (name: string, call: Callable["call"]): void => void known.set(name, new Callable(name, call));

  define("collections.OrderedDict", ([items = null, ...more]) => orderedDict(items, more, fail));
  for (const module of ["builtins", "__builtin__"]) {
    define(`${module}.set`, (parameters) => new Set(only(parameters, Array.isArray, "set", fail) as PickleValue[]));
    define(
      `${module}.frozenset`,
      (parameters) => new Set(only(parameters, Array.isArray, "frozenset", fail) as PickleValue[]),
    );
  }
  // How Python 3 spells bytes in protocol 2.
  define("_codecs.encode", ([text, encoding]) => latin1(text, encoding, fail));
  define("torch.Size", (parameters) => only(parameters, (value) => value instanceof Tuple, "torch.Size", fail));
  define("torch.device", (parameters) => device(parameters, fail));
  define("torch._utils._rebuild_tensor", ([storage, offset, size, stride]) =>
    tensor({ storage, offset, size, stride }, fail),
  );
  define("torch._utils._rebuild_tensor_v2", ([storage, offset, size, stride]) =>
    tensor({ storage, offset, size, stride }, fail),
  );
  // For dtypes that have no storage class of their own.
  define("torch._utils._rebuild_tensor_v3", ([storage, offset, size, stride, , , dtype]) =>
    tensor({ storage, offset, size, stride, dtype }, fail),
  );
  const parameter: Callable["call"] = ([data]) =>
    data instanceof TorchTensor ? data : fail("tensor", "a parameter that is no tensor");
  define("torch._utils._rebuild_parameter", parameter);
  define("torch._utils._rebuild_parameter_with_state", parameter);

  for (const [name, dtype] of storageTypes) known.set(`torch.${name}`, new StorageType(name, dtype));
  known.set("torch.storage.UntypedStorage", new StorageType("UntypedStorage", "U8"));
  for (const name of inert) known.set(name, new Opaque(name));
  for (const name of torchDTypes.keys()) known.set(`torch.${name}`, new TorchDType(`torch.${name}`));
  return (name) => known.get(name);
}

function only(
  parameters: readonly PickleValue[],
  fits: (value: PickleValue) => boolean,
  name: string,
  fail: Fail,
): PickleValue {
  const [value, ...more] = parameters;
  return value !== undefined && fits(value) && more.length === 0 ? value : fail("pickle", `${name} of something else`);
}

/** `OrderedDict()`, or Python 2's `OrderedDict([[key, value], …])`. */
function orderedDict(items: PickleValue, more: readonly PickleValue[], fail: Fail): PickleValue {
  if (more.length > 0 || !(items === null || Array.isArray(items))) fail("pickle", "an OrderedDict of something else");
  const pairs = (items ?? []) as readonly PickleValue[];
  return new Map(
    pairs.map((item): [PickleValue, PickleValue] => {
      const pair = item instanceof Tuple ? item.items : item;
      if (!Array.isArray(pair) || pair.length !== 2) return fail("pickle", "an OrderedDict of something else");
      return [pair[0] as PickleValue, pair[1] as PickleValue];
    }),
  );
}

function latin1(text: PickleValue | undefined, encoding: PickleValue | undefined, fail: Fail): PickleValue {
  if (typeof text !== "string" || encoding !== "latin1") return fail("pickle", "_codecs.encode of something else");
  return Uint8Array.from(text, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? code : fail("pickle", `_codecs.encode of ${quote(character)}, which Latin-1 lacks`);
  });
}

function device(parameters: readonly PickleValue[], fail: Fail): PickleValue {
  const [type, index, ...more] = parameters;
  if (typeof type !== "string" || more.length > 0) return fail("pickle", "torch.device of something else");
  if (index === undefined) return new TorchDevice(type);
  return typeof index === "number"
    ? new TorchDevice(`${type}:${index}`)
    : fail("pickle", "torch.device of something else");
}

interface Claim {
  readonly storage: PickleValue | undefined;
  readonly offset: PickleValue | undefined;
  readonly size: PickleValue | undefined;
  readonly stride: PickleValue | undefined;
  readonly dtype?: PickleValue | undefined;
}

/** A view, checked: every element that it names lies in its storage. */
function tensor({ storage, offset, size, stride, dtype }: Claim, fail: Fail): TorchTensor {
  if (!(storage instanceof TorchStorage)) return fail("tensor", "a tensor without a storage");
  const shape = whole(size, "size", fail);
  const strides = whole(stride, "stride", fail);
  const [begin = 0] = whole(new Tuple([offset ?? null]), "offset", fail);
  const type =
    dtype === undefined ? storage.dtype : torchDTypes.get(dtype instanceof TorchDType ? dtype.name.slice(6) : "");
  if (type === undefined) return fail("tensor", "a tensor of an unknown dtype");
  if (Math.max(shape.length, strides.length) > mostAxes) return fail("tensor", `a tensor of ${shape.length} axes`);
  const [sizes, steps] = [shape.join(), strides.join()];
  if (shape.length !== strides.length) {
    return fail("tensor", `a tensor of size [${sizes}] with the stride [${steps}] of another rank`);
  }
  if (!shape.includes(0)) {
    // Exact: a product of two safe integers may not be safe.
    const last = shape.reduce(
      (sum, length, axis) => sum + BigInt(length - 1) * BigInt(strides[axis] ?? 0),
      BigInt(begin),
    );
    const held = Math.floor((storage.bytes * 8) / fileDTypeBits[type]);
    if (last >= BigInt(held)) {
      return fail(
        "tensor",
        `a tensor of size [${sizes}], stride [${steps}] and offset ${begin} reaches element ${last} of storage ${quote(storage.key)}, which has ${held}`,
      );
    }
  }
  const count = shape.reduce((product, length) => product * BigInt(length), BigInt(fileDTypeBits[type]));
  if (count > BigInt(Number.MAX_SAFE_INTEGER)) return fail("tensor", `a tensor of size [${sizes}] is too large`);
  return new TorchTensor(storage, type, begin, shape, strides);
}

/** A tuple of integers from 0 on. */
function whole(value: PickleValue | undefined, what: string, fail: Fail): number[] {
  if (!(value instanceof Tuple)) return fail("tensor", `the ${what} of a tensor is no tuple`);
  return value.items.map((item) =>
    typeof item === "number" && Number.isSafeInteger(item) && item >= 0
      ? item
      : fail("tensor", `the ${what} of a tensor holds ${describe(item)}, not an integer from 0 on`),
  );
}

function describe(item: PickleValue): string {
  if (typeof item === "number" || typeof item === "bigint") return String(item).slice(0, 40);
  return item === null ? "None" : typeof item;
}
