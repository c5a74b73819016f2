/** Writes values as a pickle of protocol 2, in the subset that `torch.load(weights_only=True)` reads. */
import { UsageError } from "@rot/tensor";
import { fileDTypeBits } from "@rot/tensor/safetensors";
import { storageTypeOf, torchDTypeOf } from "./dtypes.ts";
import { op } from "./opcodes.ts";
import { TorchDevice, TorchDType, Tuple } from "./values.ts";
import type { TensorToWrite } from "./writer.ts";

/** A value to save. Integers must be safe or bigints; a number that is not whole is saved as a float. */
export type WritableValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly WritableValue[]
  | Tuple
  | ReadonlyMap<WritableValue, WritableValue>
  | ReadonlySet<WritableValue>
  | TorchDType
  | TorchDevice
  | TensorToWrite;

const deepest = 100;
const encoder = new TextEncoder();

/**
 * The pickle of `root`.
 *
 * @param keyOf the name of a tensor's storage in the container; called in the order of the tensors
 * @throws {UsageError} for a value that a checkpoint cannot hold
 */
export function pickle(root: WritableValue, keyOf: (tensor: TensorToWrite) => string): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(op.PROTO, 2)];
  const code = (...bytes: number[]): void => void parts.push(Uint8Array.from(bytes));
  const global = (module: string, name: string): void => void parts.push(encoder.encode(`c${module}\n${name}\n`));
  function number(opcode: number, width: number, write: (view: DataView) => void): void {
    const bytes = new Uint8Array(1 + width);
    bytes[0] = opcode;
    write(new DataView(bytes.buffer, 1));
    parts.push(bytes);
  }

  function integer(value: bigint): void {
    if (value >= 0 && value < 256) return code(op.BININT1, Number(value));
    if (BigInt.asIntN(32, value) === value)
      return number(op.BININT, 4, (view) => view.setInt32(0, Number(value), true));
    let length = 1;
    while (BigInt.asIntN(8 * length, value) !== value) length++;
    if (length > 255) throw new UsageError(`an integer of ${length} bytes cannot be saved`);
    code(op.LONG1, length);
    for (let i = 0; i < length; i++) code(Number((value >> BigInt(8 * i)) & 0xffn));
  }
  function text(value: string): void {
    if (!value.isWellFormed()) throw new UsageError("a string with half a surrogate pair cannot be saved");
    const bytes = encoder.encode(value);
    number(op.BINUNICODE, 4, (view) => view.setUint32(0, bytes.length, true));
    parts.push(bytes);
  }
  function tuple(items: readonly (() => void)[]): void {
    code(op.MARK);
    for (const item of items) item();
    code(op.TUPLE);
  }
  const integers = (values: readonly number[]): void => tuple(values.map((value) => () => integer(BigInt(value))));
  const orderedDict = (): void => {
    global("collections", "OrderedDict");
    code(op.EMPTY_TUPLE, op.REDUCE);
  };

  function tensor(value: TensorToWrite): void {
    const { dtype, shape } = value;
    const storage = storageTypeOf.get(dtype);
    const named = torchDTypeOf.get(dtype);
    if (named === undefined) throw new UsageError(`torch has no dtype for ${dtype}`);
    const elements = shape.reduce((product, length) => product * length, 1);
    const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, n) => product * Math.max(n, 1), 1));
    global("torch._utils", storage === undefined ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    tuple([
      () => {
        tuple([
          () => text("storage"),
          () => (storage === undefined ? global("torch.storage", "UntypedStorage") : global("torch", storage)),
          () => text(keyOf(value)),
          () => text("cpu"),
          () => integer(BigInt(storage === undefined ? (elements * fileDTypeBits[dtype]) / 8 : elements)),
        ]);
        code(op.BINPERSID);
      },
      () => integer(0n),
      () => integers(shape),
      () => integers(stride),
      () => code(op.NEWFALSE),
      orderedDict,
      ...(storage === undefined ? [() => global("torch", named)] : []),
    ]);
    code(op.REDUCE);
  }

  function put(value: WritableValue, depth: number): void {
    if (depth > deepest) throw new UsageError(`values more than ${deepest} deep in one another cannot be saved`);
    const inner = (item: WritableValue): void => put(item, depth + 1);
    if (value === null) return code(op.NONE);
    if (typeof value === "boolean") return code(value ? op.NEWTRUE : op.NEWFALSE);
    if (typeof value === "bigint") return integer(value);
    if (typeof value === "string") return text(value);
    if (typeof value === "number") {
      if (Number.isSafeInteger(value) && !Object.is(value, -0)) return integer(BigInt(value));
      return number(op.BINFLOAT, 8, (view) => view.setFloat64(0, value));
    }
    if (value instanceof Uint8Array) {
      global("_codecs", "encode");
      tuple([() => text(Buffer.from(value).toString("latin1")), () => text("latin1")]);
      return code(op.REDUCE);
    }
    if (value instanceof Tuple) return tuple(value.items.map((item) => () => inner(item as WritableValue)));
    if (value instanceof TorchDType) return global("torch", value.name.replace(/^torch\./, ""));
    if (value instanceof TorchDevice) {
      global("torch", "device");
      tuple([() => text(value.name)]);
      return code(op.REDUCE);
    }
    if (value instanceof Map) {
      code(op.EMPTY_DICT, op.MARK);
      for (const [key, item] of value) {
        inner(key);
        inner(item);
      }
      return code(op.SETITEMS);
    }
    if (value instanceof Set) {
      global("builtins", "set");
      tuple([() => put([...value], depth + 1)]);
      return code(op.REDUCE);
    }
    if (Array.isArray(value)) {
      code(op.EMPTY_LIST, op.MARK);
      for (const item of value) inner(item);
      return code(op.APPENDS);
    }
    tensor(value as TensorToWrite);
  }

  put(root, 0);
  code(op.STOP);
  return Buffer.concat(parts);
}
