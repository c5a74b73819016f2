import fc from "fast-check";
import { anyDtype, shapes, upload } from "../../test/tools/arrays.ts";
import { noise, stored } from "../../test/tools/lines.ts";
import { byteLength, type DType, fromBf16, fromF16, isFloat, toBf16, toF16 } from "../dtype.ts";
import { grad } from "../grad.ts";
import { requireGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { checkGradients, expect, test } from "../testing.ts";
import { cast } from "./cast.ts";
import { full, tensor } from "./create.ts";

/** The bits of a tensor's elements as they are stored. */
async function bitsOf(x: Tensor): Promise<Uint16Array | Uint32Array> {
  const bytes = await x.device.read(x.storage.buffer, byteLength(x.dtype, x.size));
  return x.dtype === "f16" || x.dtype === "bf16" ? new Uint16Array(bytes).subarray(0, x.size) : new Uint32Array(bytes);
}

/** Every upper half of an f32 with the lower halves that decide how it is rounded. */
function patterns(): Uint32Array {
  const lower = [0x0000, 0x0001, 0x0fff, 0x1000, 0x1001, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff];
  const out = new Uint32Array(65_536 * lower.length);
  for (let upper = 0; upper < 65_536; upper++) {
    for (const [i, low] of lower.entries()) out[upper * lower.length + i] = upper * 65_536 + low;
  }
  return out;
}

const halves = {
  bf16: { to: toBf16, from: fromBf16, isNan: (h: number) => (h & 0x7fff) > 0x7f80 },
  f16: { to: toF16, from: fromF16, isNan: (h: number) => (h & 0x7fff) > 0x7c00 },
} as const;

test.for(["bf16", "f16"] as const)(
  "f32 becomes the same bits in %s as on the host: ties, subnormals, infinities, NaN",
  async (dtype, { device }) => {
    const { to, isNan } = halves[dtype];
    const bits = patterns();
    const values = new Float32Array(bits.buffer);
    const got = await bitsOf(cast(tensor(device, values), dtype));
    const wrong: string[] = [];
    for (const [i, value] of values.entries()) {
      const want = to(value);
      const same = isNan(want) ? isNan(got[i] as number) : got[i] === want;
      if (!same)
        wrong.push(`${(bits[i] as number).toString(16)} became ${got[i]?.toString(16)}, not ${want.toString(16)}`);
    }
    expect(wrong.slice(0, 8)).toEqual([]);
  },
);

test.for(["bf16", "f16"] as const)("every %s becomes the f32 it stands for", async (dtype, { device }) => {
  const { from } = halves[dtype];
  const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
  await expect(cast(tensor(device, all, { dtype }), "f32")).toBeClose(Float32Array.from(all, from));
});

test("casts agree with storing on the host, in 200 random shapes between any dtypes", async ({ device }) => {
  const seeds = fc.integer({ min: 1, max: 1e6 });
  await fc.assert(
    fc.asyncProperty(shapes(), anyDtype, anyDtype, seeds, async (shape, a, b, seed) => {
      const x = noise(device, seed, shape, a, 3);
      // A negative float has no u32.
      const plain = { shape, values: b === "u32" && isFloat(a) ? x.values.map(Math.abs) : x.values };
      const y = cast(upload(device, plain, a), b);
      expect(y.dtype).toBe(b);
      await expect(y).toBeClose({ shape, values: plain.values.map((v) => stored(b, v)) });
    }),
    { numRuns: 200, seed: 61 },
  );
});

test("floats are cut towards zero for integers, and held at the ends of their range", async ({ device }) => {
  const x = tensor(device, [1.9, -1.9, 0.999, -0.999, 2 ** 24 + 2, -(2 ** 31), 2 ** 31 - 128, 3e9, -3e9, Infinity]);
  await expect(cast(x, "i32")).toBeClose(
    [1, -1, 0, 0, 2 ** 24 + 2, -(2 ** 31), 2 ** 31 - 128, 2 ** 31 - 1, -(2 ** 31), 2 ** 31 - 1],
    {
      // The largest i32 is no f32; an adapter may hold at the one below.
      absolute: 128,
    },
  );
  await expect(cast(tensor(device, [3.7, 4e9, -5, 0.5]), "u32")).toBeClose([3, 4e9, 0, 0]);
});

test("anything but 0 is true: NaN, infinities, and the smallest subnormals", async ({ device }) => {
  const x = Float32Array.from([0, -0, 1e-45, -1e-45, 1e-39, Number.NaN, Infinity, -3]);
  await expect(cast(tensor(device, x), "bool")).toBeClose([0, 0, 1, 1, 1, 1, 1, 1]);
  for (const dtype of ["f16", "bf16"] as const) {
    const halves = Uint16Array.of(0, 0x8000, 1, 0x8001, 0x7c01, 0x7fc0, 0x3c00, 0x7f81);
    await expect(cast(tensor(device, halves, { dtype }), "bool")).toBeClose([0, 0, 1, 1, 1, 1, 1, 1]);
  }
  await expect(cast(tensor(device, Int32Array.of(0, -5, 2 ** 30)), "bool")).toBeClose([0, 1, 1]);
});

test("integers become each other by their bits, and the nearest f32", async ({ device }) => {
  const top = tensor(device, Uint32Array.of(2 ** 32 - 1, 2 ** 31, 7));
  await expect(cast(top, "i32")).toBeClose([-1, -(2 ** 31), 7]);
  await expect(cast(top, "f32")).toBeClose([2 ** 32, 2 ** 31, 7]);
  await expect(cast(tensor(device, Int32Array.of(-1, 2 ** 24 + 1)), "u32")).toBeClose([2 ** 32 - 1, 2 ** 24 + 1]);
  await expect(cast(tensor(device, Int32Array.of(-(2 ** 31), -7)), "f32")).toBeClose([-(2 ** 31), -7]);
});

test("the same dtype gives the same tensor, odd counts of halves and large tensors are whole", async ({ device }) => {
  const x = full(device, [3], 7);
  expect(cast(x, "f32")).toBe(x);
  await expect(cast(cast(full(device, [3, 1], 7), "bf16"), "f16")).toBeClose({ shape: [3, 1], values: [7, 7, 7] });
  const n = 2 * 64 * 65_536 + 3;
  const large = await cast(full(device, [n], 3, "i32"), "bf16").read();
  expect([large[0], large[64 * 65_536 + 1], large.at(-1)]).toEqual([3, 3, 3]);
});

test("gradients pass between floats in the dtype of the input, and stop at integers", async ({ device, random }) => {
  await checkGradients((x) => cast(cast(x as Tensor, "bf16"), "f32"), [random.normal([7])], {
    step: 2,
    relative: 2e-2,
  });
  const half = requireGrad(full(device, [2], 1, "bf16"));
  const [d] = grad(cast(half, "f32"), [half], { cotangent: tensor(device, [1.001, 2]) }) as [Tensor];
  expect(d.dtype).toBe("bf16");
  await expect(d).toBeClose([1, 2]);
  const x = requireGrad(full(device, [2], 1));
  const whole: DType = "i32";
  expect(() => grad(cast(cast(x, whole), "f32"), [x], { cotangent: full(device, [2], 1) })).toThrow("no path leads");
});
