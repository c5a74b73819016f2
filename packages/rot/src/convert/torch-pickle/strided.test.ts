import fc from "fast-check";
import { expect, test } from "vitest";
import { whole } from "../../../test/tools/torch-files.ts";
import { countOf, isContiguous, streamStrided } from "./strided.ts";
import { TorchStorage, TorchTensor } from "./values.ts";

/** The elements of a view by the definition: index by index. */
function byDefinition({ shape, stride, offset }: TorchTensor, storage: Uint16Array): number[] {
  return Array.from({ length: countOf(shape) }, (_, flat) => {
    let at = offset;
    let left = flat;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += (left % (shape[axis] as number)) * (stride[axis] as number);
      left = Math.floor(left / (shape[axis] as number));
    }
    return storage[at] as number;
  });
}

const storage = Uint16Array.from({ length: 4096 }, (_, i) => i);
const raw = new Uint8Array(storage.buffer);
const axis = fc.record({ length: fc.nat({ max: 5 }), stride: fc.nat({ max: 40 }) });

test("any view gives the elements that its strides name, in row-major order", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(axis, { maxLength: 5 }),
      fc.nat({ max: 100 }),
      fc.boolean(),
      async (axes, offset, dense) => {
        const shape = axes.map(({ length }) => length);
        const stride = dense
          ? shape.map((_, i) => shape.slice(i + 1).reduce((product, n) => product * Math.max(n, 1), 1))
          : axes.map((drawn) => drawn.stride);
        const tensor = new TorchTensor(new TorchStorage("0", "BF16", raw.length), "BF16", offset, shape, stride);
        const bytes = await whole(streamStrided(tensor, async (begin, end) => raw.slice(begin, end)));
        const found = [...new Uint16Array(Uint8Array.from(bytes).buffer)];
        expect(found).toEqual(byDefinition(tensor, storage));
        if (dense) expect(isContiguous(tensor)).toBe(true);
      },
    ),
    { seed: 1, numRuns: 500 },
  );
});

test("a transposed matrix larger than a window and a chunk comes out whole", async () => {
  // 96 MiB: the span of each chunk is read as two windows.
  const [rows, columns] = [2 ** 13, 12 * 2 ** 10];
  const tensor = new TorchTensor(new TorchStorage("0", "U8", rows * columns), "U8", 0, [columns, rows], [1, columns]);
  let at = 0;
  for await (const chunk of streamStrided(tensor, async (begin, end) => {
    const bytes = new Uint8Array(end - begin);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (begin + i) % 251;
    return bytes;
  })) {
    for (let i = 0; i < chunk.length; i += 65_537) {
      const flat = at + i;
      expect(chunk[i]).toBe((Math.floor(flat / rows) + (flat % rows) * columns) % 251);
    }
    at += chunk.length;
    if (at >= 2 ** 23) break;
  }
  expect(at).toBe(2 ** 23);
});
