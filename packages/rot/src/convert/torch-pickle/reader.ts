/** Opens files of `torch.save` by ranges: the pickle once, then each storage when it is asked for. */
import { crc32 } from "node:zlib";
import type { ByteSource } from "@rot/tensor/safetensors";
import { type Container, makeStorages, openContainer, type Range } from "./containers.ts";
import { type Fail, quote, TorchFileError } from "./error.ts";
import { makeGlobals } from "./globals.ts";
import { bytesOf, CHUNK_BYTES, isContiguous, streamStrided } from "./strided.ts";
import { unpickle } from "./unpickle.ts";
import { Opaque, type PickleValue, type TorchTensor } from "./values.ts";
import { type NamedTensor, tensorsIn } from "./walk.ts";

/** An open file. */
export interface TorchFile {
  readonly container: Container["kind"];
  /** What was saved. */
  readonly value: PickleValue;
  /** Every tensor in it, by path. */
  readonly tensors: readonly NamedTensor[];
  /** The classes and functions that the pickle names, sorted. */
  readonly globals: readonly string[];
  /**
   * The bytes of a tensor of this file, little-endian, contiguous, in row-major order, a few MiB at a time.
   *
   * @throws {TorchFileError} for a wrong checksum, at the latest after the last chunk
   */
  readonly stream: (tensor: TorchTensor) => AsyncGenerator<Uint8Array>;
}

/** A view that repeats elements (stride 0) may grow up to here beyond its storage: a few bytes could claim terabytes. */
const largestRepetition = 64 * 2 ** 20;

/**
 * Reads the structure of a checkpoint: zip archives of torch ≥ 1.6 and the older container. Nothing in it is executed:
 * its opcodes and globals are a closed list, and everything else is an error that names it.
 *
 * @param source read by ranges; no storage is read here
 * @param options.name how messages call the file
 * @throws {TorchFileError} naming the file and what is wrong with it
 */
export async function openTorchFile(source: ByteSource, { name: file }: { name: string }): Promise<TorchFile> {
  const fail: Fail = (rule, message) => {
    throw new TorchFileError(rule, `${file}: ${message}`);
  };
  const bytes = reading(source, fail);
  const container = await openContainer(source, fail, (range, what) => bytes.whole(range, what));
  const known = makeGlobals(fail);
  const globals = new Set<string>();
  const { storages, persistent } = makeStorages(fail);
  const { value, end } = unpickle(container.pickle, container.begin, {
    fail,
    persistent,
    resolve(module, name, offset) {
      const full = `${module}.${name}`;
      globals.add(full);
      const meaning = known(full);
      if (meaning !== undefined) return meaning;
      return fail(
        "global",
        `${quote(full)} at byte ${offset} of the pickle is not allowed: a checkpoint of tensors does not need it`,
      );
    },
  });
  const ranges = await container.locate(storages, end);
  const tensors = tensorsIn(value, fail);
  const verified = new Set<Range>();

  async function* stream(tensor: TorchTensor): AsyncGenerator<Uint8Array> {
    const range = ranges.get(tensor.storage.key);
    if (!range) return fail("tensor", `no storage ${quote(tensor.storage.key)} in this file`);
    const size = bytesOf(tensor);
    if (size > Math.max(tensor.storage.bytes, largestRepetition)) {
      fail("limit", `a tensor of ${size} bytes repeats a storage of ${tensor.storage.bytes}`);
    }
    const read = (begin: number, end: number) => bytes.piece(range.begin + begin, range.begin + end);
    // A tensor that is all of its storage is checked on the way; for a part of one the whole is read first, once.
    const all = isContiguous(tensor) && size === tensor.storage.bytes;
    if (!all && !verified.has(range)) await bytes.check(range, `storage ${quote(tensor.storage.key)}`);
    let crc = 0;
    for await (const chunk of streamStrided(tensor, read)) {
      if (all && !verified.has(range)) crc = crc32(chunk, crc);
      yield chunk;
    }
    if (all && !verified.has(range)) bytes.compare(range, crc, `storage ${quote(tensor.storage.key)}`);
    verified.add(range);
  }

  return { container: container.kind, value, tensors, globals: [...globals].toSorted(), stream };
}

/** What {@link listGlobals} found. */
export interface GlobalsFound {
  /** `module.name`, sorted, with whether {@link openTorchFile} takes it. */
  readonly globals: readonly { readonly name: string; readonly allowed: boolean }[];
  /** Why the list may not be complete: where reading stopped. */
  readonly stopped?: string;
}

/**
 * The classes and functions that the pickle of a file names, allowed or not: a look at a file that
 * {@link openTorchFile} refuses. Nothing is executed; values of unknown classes are not made.
 *
 * @throws {TorchFileError} when the container cannot be read
 */
export async function listGlobals(source: ByteSource, { name: file }: { name: string }): Promise<GlobalsFound> {
  const fail: Fail = (rule, message) => {
    throw new TorchFileError(rule, `${file}: ${message}`);
  };
  const bytes = reading(source, fail);
  const { pickle, begin } = await openContainer(source, fail, (range, what) => bytes.whole(range, what));
  const known = makeGlobals(fail);
  const found = new Map<string, boolean>();
  let stopped: string | undefined;
  try {
    unpickle(pickle, begin, {
      fail,
      persistent: () => new Opaque("storage"),
      resolve(module, name) {
        const full = `${module}.${name}`;
        const meaning = known(full);
        found.set(full, meaning !== undefined);
        // Tensors are not checked here: their storages were not looked up.
        return meaning === undefined || module === "torch._utils" ? new Opaque(full) : meaning;
      },
    });
  } catch (error) {
    if (!(error instanceof TorchFileError)) throw error;
    stopped = error.message;
  }
  const globals = [...found].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, allowed]) => ({ name, allowed }));
  return stopped === undefined ? { globals } : { globals, stopped };
}

/** Reads that must be complete, and checksums. */
function reading(source: ByteSource, fail: Fail) {
  async function piece(begin: number, end: number): Promise<Uint8Array> {
    const bytes = await source.read(begin, end);
    return bytes.length === end - begin ? bytes : fail("container", `${bytes.length} bytes came of ${begin} to ${end}`);
  }
  function compare({ crc }: Range, found: number, what: string): void {
    if (crc !== undefined && crc !== found) {
      fail(
        "checksum",
        `${what} has the checksum ${hex(found)}, but the archive states ${hex(crc)}: the file is damaged`,
      );
    }
  }
  return {
    piece,
    compare,
    /** Reads a short range and checks it. */
    async whole(range: Range, what: string): Promise<Uint8Array> {
      const bytes = await piece(range.begin, range.end);
      compare(range, crc32(bytes), what);
      return bytes;
    },
    /** Reads a range of any length to check it. */
    async check(range: Range, what: string): Promise<void> {
      if (range.crc === undefined) return;
      let crc = 0;
      for (let at = range.begin; at < range.end; at += CHUNK_BYTES) {
        crc = crc32(await piece(at, Math.min(at + CHUNK_BYTES, range.end)), crc);
      }
      compare(range, crc, what);
    },
  };
}

const hex = (value: number): string => value.toString(16).padStart(8, "0");
