/** The two containers of torch files: where the pickle and the storages lie. */
import { type ByteSource, fileDTypeBits } from "@rot/tensor/safetensors";
import { type Fail, quote } from "./error.ts";
import { StorageType, TorchStorage, Tuple, type PickleValue } from "./values.ts";
import { unpickle, type UnpickleOptions } from "./unpickle.ts";
import { readZipDirectory } from "./zip.ts";

/** More than the pickle of any checkpoint. */
const longestPickle = 64 * 2 ** 20;

/** Bytes of the file, with the checksum that the container states for them, if it states one. */
export interface Range {
  readonly begin: number;
  readonly end: number;
  readonly crc?: number;
}

/** An opened container. */
export interface Container {
  readonly kind: "zip" | "legacy";
  /** The bytes that hold the pickle, and where in them it begins. */
  readonly pickle: Uint8Array;
  readonly begin: number;
  /** Finds the storages, once the pickle has been read and ended at byte `end`. */
  locate(storages: ReadonlyMap<string, TorchStorage>, end: number): Promise<ReadonlyMap<string, Range>>;
}

/** Checks a stretch of a source against its checksum. */
export type Verify = (range: Range, what: string) => Promise<Uint8Array>;

const zipSignature = 0x04034b50;

/** Recognises the container of `source` by its first bytes. */
export async function openContainer(source: ByteSource, fail: Fail, verify: Verify): Promise<Container> {
  if (source.size === 0) return fail("container", "the file is empty");
  const head = await source.read(0, Math.min(4, source.size));
  const isZip = head.length === 4 && new DataView(head.buffer, head.byteOffset, 4).getUint32(0, true) === zipSignature;
  if (isZip) return openZip(source, fail, verify);
  if (head[0] !== 0x80)
    return fail(
      "container",
      "neither a zip archive nor a pickle: not a file of torch.save, or its beginning is cut off",
    );
  return openLegacy(source, fail);
}

async function openZip(source: ByteSource, fail: Fail, verify: Verify): Promise<Container> {
  const entries = await readZipDirectory(source, fail);
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [name, ...more] = pickles;
  if (name === undefined) return fail("container", "the zip archive has no data.pkl: not a file of torch.save");
  if (more.length > 0)
    return fail("container", `the zip archive holds several checkpoints: ${pickles.slice(0, 4).map(quote).join(", ")}`);
  const folder = name.slice(0, -"data.pkl".length);
  if (entries.has(`${folder}constants.pkl`)) {
    return fail("container", "a TorchScript archive, which holds a program; save its state_dict() instead");
  }
  async function content(part: string, longest: number): Promise<Uint8Array | undefined> {
    const entry = entries.get(`${folder}${part}`);
    if (!entry) return undefined;
    if (entry.end - entry.begin > longest)
      fail("limit", `${part} has ${entry.end - entry.begin} bytes, more than ${longest}`);
    return verify(entry, part);
  }

  const order = await content("byteorder", 16);
  const text = order && new TextDecoder().decode(order);
  if (text !== undefined && text !== "little") {
    fail(
      "container",
      `the byte order is ${quote(text)}; only little-endian files are read: save it again on such a machine`,
    );
  }
  const pickle = (await content("data.pkl", longestPickle)) ?? new Uint8Array(0);
  return {
    kind: "zip",
    pickle,
    begin: 0,
    async locate(storages) {
      const found = new Map<string, Range>();
      for (const storage of storages.values()) {
        const entry = entries.get(`${folder}data/${storage.key}`);
        if (!entry) return fail("container", `storage ${quote(storage.key)} is missing from the archive`);
        checkSize(storage, entry.end - entry.begin, fail);
        found.set(storage.key, entry);
      }
      return found;
    },
  };
}

function checkSize(storage: TorchStorage, size: number, fail: Fail): void {
  if (size === storage.bytes) return;
  fail("tensor", `storage ${quote(storage.key)} has ${size} bytes in the file, but its tensors state ${storage.bytes}`);
}

const magic = 0x1950a86a20f9469cfc6cn;
const legacyProtocol = 1001;

/** The container before torch 1.6: pickles one after the other, then each storage with its element count before it. */
async function openLegacy(source: ByteSource, fail: Fail): Promise<Container> {
  const bytes = await source.read(0, Math.min(source.size, longestPickle));
  let at = 0;
  const plain = (reason: string): never => fail("container", `${reason}: not a file of torch.save`);
  const next = (): PickleValue => {
    const read = unpickle(bytes, at, {
      fail,
      resolve: (module, name) => fail("global", `${quote(`${module}.${name}`)} is not allowed`),
      persistent: () => plain("a storage before the checkpoint begins"),
    });
    at = read.end;
    return read.value;
  };
  if (next() !== magic) plain("a pickle without torch's magic number");
  if (next() !== legacyProtocol) plain("a pickle of another version than torch's 1001");
  const system = next();
  if (!(system instanceof Map)) return plain("a pickle without a description of its system");
  if (system.get("little_endian") !== true)
    fail("container", "only little-endian files are read: save it again on such a machine");
  return {
    kind: "legacy",
    pickle: bytes,
    begin: at,
    async locate(storages, end) {
      at = end;
      const keys = next();
      if (!Array.isArray(keys) || new Set(keys).size !== keys.length) return plain("no list of storages");
      const found = new Map<string, Range>();
      for (const key of keys) {
        const storage = typeof key === "string" ? storages.get(key) : undefined;
        if (!storage) return fail("container", "the list of storages names one that no tensor uses");
        if (at + 8 > source.size)
          return fail("container", `storage ${quote(storage.key)} is missing: the file is cut short`);
        const head = await source.read(at, at + 8);
        const elements = new DataView(head.buffer, head.byteOffset, 8).getBigInt64(0, true);
        checkSize(storage, Number((elements * BigInt(fileDTypeBits[storage.dtype])) / 8n), fail);
        at += 8 + storage.bytes;
        if (at > source.size) return fail("container", `storage ${quote(storage.key)} is cut short`);
        found.set(storage.key, { begin: at - storage.bytes, end: at });
      }
      if (found.size !== storages.size) return fail("container", "a storage is missing from the list of storages");
      if (at !== source.size) return fail("container", `${source.size - at} bytes follow the last storage`);
      return found;
    },
  };
}

/** The persistent ids of torch: `("storage", type, key, device, elements)`; in the older container with a sixth, `None`. */
export function makeStorages(fail: Fail): {
  storages: Map<string, TorchStorage>;
  persistent: UnpickleOptions["persistent"];
} {
  const storages = new Map<string, TorchStorage>();
  return {
    storages,
    persistent(id) {
      const [tag, type, key, , elements, view = null] = id instanceof Tuple ? id.items : [];
      if (tag !== "storage" || !(type instanceof StorageType) || typeof key !== "string") {
        return fail("tensor", "a persistent id that is no storage");
      }
      if (typeof elements !== "number" || !Number.isSafeInteger(elements) || elements < 0) {
        return fail("tensor", `storage ${quote(key)} with an impossible number of elements`);
      }
      if (view !== null)
        return fail("tensor", `storage ${quote(key)} is a view of another, a form that torch gave up before 1.0`);
      const bytes = (elements * fileDTypeBits[type.dtype]) / 8;
      if (!Number.isSafeInteger(bytes))
        return fail("tensor", `storage ${quote(key)} of ${elements} elements is too large`);
      const known = storages.get(key);
      if (known && (known.dtype !== type.dtype || known.bytes !== bytes)) {
        return fail("tensor", `storage ${quote(key)} has two types or sizes`);
      }
      const storage = known ?? new TorchStorage(key, type.dtype, bytes);
      storages.set(key, storage);
      return storage;
    },
  };
}
