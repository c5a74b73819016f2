import { type Device, openRehearsal, type Shape, size, type Tensor } from "@rot/tensor";
import {
  type FileDType,
  fileDTypeBits,
  fromBytes,
  openSafetensors,
  type TensorSource,
  writeSafetensors,
} from "@rot/tensor/safetensors";
import { expect, test } from "@rot/tensor/testing";
import { recordArchitecture } from "./architecture.ts";
import { type Checkpoint, loadCheckpoint } from "./checkpoint.ts";
import { randomInit, randomSources } from "./init.ts";
import { PIECE, readBytes, tensorSource } from "./pieces.ts";

async function whole(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

async function checkpointOf(sources: readonly TensorSource[]): Promise<Checkpoint> {
  const file = await openSafetensors(fromBytes(await whole(writeSafetensors(sources))), { name: "test" });
  return { name: "test", tensors: new Map([...file.tensors].map(([key, entry]) => [key, { entry, file }])) };
}

/** A tensor whose 16-bit words count up to 4093 and begin again, so that a piece out of place shows. */
function counting(name: string, dtype: FileDType, shape: Shape): TensorSource {
  const words = Uint16Array.from({ length: (size(shape) * fileDTypeBits[dtype]) / 16 }, (_, i) => (i * 7) % 4093);
  return { name, dtype, shape, data: new Uint8Array(words.buffer) };
}

const architectureOf = (sources: readonly TensorSource[]) =>
  recordArchitecture((w) => sources.map(({ name, shape }) => w.get(name, shape)));

async function load(device: Device, source: TensorSource, dtype?: "f32" | "f16" | "bf16"): Promise<Tensor> {
  const loaded = await loadCheckpoint(
    await checkpointOf([source]),
    architectureOf([source]),
    device,
    dtype ? { dtype } : {},
  );
  return loaded.get(source.name) as Tensor;
}

/** One element, odd ones, more than a piece that is read at a time. */
const shapes: Shape[] = [[1], [3, 5], [7, 1, 2], [2 ** 21 + 3]];

test.for(shapes.flatMap((shape) => (["F32", "BF16", "F16"] as const).map((dtype) => ({ shape, dtype }))))(
  "$dtype $shape is kept bit by bit, and goes into a file again as it was",
  async ({ shape, dtype }, { device }) => {
    const source = counting("a", dtype, shape);
    const loaded = await load(device, source);
    expect(loaded.dtype).toBe(dtype.toLowerCase());
    expect(Buffer.compare(await readBytes(loaded), source.data as Uint8Array)).toBe(0);
    const written = await whole(writeSafetensors([tensorSource("a", loaded as Tensor<"f32">)]));
    expect(Buffer.compare(written, await whole(writeSafetensors([source])))).toBe(0);
    loaded.dispose();
  },
);

test.for([
  { shape: [5], stored: ["F64", "F32"], wanted: ["f32", "bf16", "f16"] },
  { shape: [2 ** 21 + 3], stored: ["F64"], wanted: ["f16"] },
] as const)(
  "stored floats become the dtype that is asked for: $shape",
  async ({ shape, stored, wanted }, { device }) => {
    const values = Float64Array.from({ length: size(shape) }, (_, i) => ((i * 7) % 253) / 4 - 30);
    const f32 = Float32Array.from(values);
    for (const kept of stored) {
      const data = new Uint8Array(kept === "F64" ? values.buffer : f32.buffer);
      for (const dtype of wanted) {
        const loaded = await load(device, { name: "a", dtype: kept, shape, data }, dtype);
        expect(loaded.dtype).toBe(dtype);
        const got = await loaded.read();
        expect(got.every((value, i) => value === f32[i])).toBe(true);
        loaded.dispose();
      }
    }
  },
);

test("nothing is read when the keys are wrong or a parameter is no float", async ({ ownDevice: device }) => {
  const sources = [counting("a", "F32", [2]), counting("b", "I32", [2])];
  const checkpoint = await checkpointOf(sources);
  await expect(loadCheckpoint(checkpoint, architectureOf([sources[0] as TensorSource]), device)).rejects.toThrow(
    "unexpected (1)",
  );
  await expect(loadCheckpoint(checkpoint, architectureOf(sources), device)).rejects.toThrow("b is stored as I32");
  expect(device.memory().live).toBe(0);
  const loaded = await loadCheckpoint(checkpoint, architectureOf([sources[0] as TensorSource]), device, {
    ignored: ["b"],
  });
  expect([...loaded.keys()]).toEqual(["a"]);
});

test("a file that comes up short frees what was loaded before it", async ({ ownDevice: device }) => {
  const sources = [counting("a", "F32", [64]), counting("b", "F32", [64])];
  const bytes = await whole(writeSafetensors(sources));
  let reads = 0;
  const failing = {
    size: bytes.length,
    read: async (begin: number, end: number) => bytes.subarray(begin, ++reads > 3 ? end - 1 : end),
  };
  const file = await openSafetensors(failing, { name: "short" });
  const tensors = new Map([...file.tensors].map(([key, entry]) => [key, { entry, file }]));
  await expect(loadCheckpoint({ name: "short", tensors }, architectureOf(sources), device)).rejects.toThrow(
    "255 bytes came",
  );
  expect(device.memory().live).toBe(0);
});

test("for a device that computes nothing only the header is read", async () => {
  const source = counting("a", "BF16", [64]);
  const checkpoint = await checkpointOf([source]);
  const unread = { read: () => expect.unreachable(), readRange: () => expect.unreachable() };
  const tensors = new Map(
    [...checkpoint.tensors].map(([key, { entry, file }]) => [key, { entry, file: { ...file, ...unread } }]),
  );
  using device = await openRehearsal({ tune: "off", notice: () => {} });
  const loaded = await loadCheckpoint({ name: "test", tensors }, architectureOf([source]), device, { dtype: "f32" });
  expect(loaded.get("a")).toMatchObject({ shape: [64], dtype: "f32" });
  expect(device.memory().live).toBe(256);
});

test("progress ends with all bytes, and the tensors stand in the model's order whatever the file's", async ({
  device,
}) => {
  const sources = [counting("z", "BF16", [64]), counting("a", "BF16", [32])];
  const calls: [number, number][] = [];
  const loaded = await loadCheckpoint(await checkpointOf(sources), architectureOf(sources), device, {
    onProgress: (bytes, total) => calls.push([bytes, total]),
  });
  expect([...loaded.keys()]).toEqual(["z", "a"]);
  expect(calls).toEqual([
    [64, 192],
    [192, 192],
  ]);
});

test("random weights in a file are those of randomInit, also beyond one piece", async ({ device }) => {
  const architecture = recordArchitecture((w) => [w.get("big.weight", [PIECE / 2 + 1, 2]), w.get("norm.weight", [5])]);
  const made = randomInit(architecture, device, { seed: 1 });
  const written = await whole(writeSafetensors(randomSources(architecture, device, { seed: 1 })));
  const kept = await whole(
    writeSafetensors([...made].map(([name, value]) => tensorSource(name, value as Tensor<"bf16">))),
  );
  expect(Buffer.compare(written, kept)).toBe(0);
  const big = made.get("big.weight") as Tensor;
  const ends = [await readBytes(big, 0, 2), await readBytes(big, PIECE, PIECE + 2)].map(String);
  expect(new Set(ends).size).toBe(2);
  for (const value of made.values()) value.dispose();
});
