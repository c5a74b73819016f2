import { fromBf16, fromF16, toBf16, toF16 } from "./dtype.ts";
import { cast } from "./ops/cast.ts";
import { tensor } from "./ops/create.ts";
import { expect, test } from "./testing.ts";

const scratch = new DataView(new ArrayBuffer(4));
const fromBits = (bits: number): number => {
  scratch.setUint32(0, bits >>> 0);
  return scratch.getFloat32(0);
};

test.for([
  { dtype: "bf16", round: (x: number) => fromBf16(toBf16(x)), bits: 16 },
  { dtype: "f16", round: (x: number) => fromF16(toF16(x)), bits: 13 },
] as const)(
  "the device rounds f32 to $dtype as the host does: ties, subnormals, overflow, infinities and NaN",
  async ({ dtype, round, bits }, { device, random }) => {
    const values: number[] = [
      0,
      -0,
      65504,
      65519.99,
      65520,
      3.4e38,
      Infinity,
      -Infinity,
      NaN,
      1e-45,
      2 ** -24,
      2 ** -25,
    ];
    for (let i = 0; i < 20_000; i++) {
      const word = Math.floor(random.next() * 2 ** 32) >>> 0;
      // Every other one lies halfway between two neighbours, or one step from it.
      const tie = ((word >>> bits) << bits) | (1 << (bits - 1));
      values.push(fromBits(i % 2 ? word : tie + random.integer(-1, 2)));
      values.push(2 ** -random.integer(10, 28) * (1 + random.integer(0, 64) / 64));
    }
    // SwiftShader and others may take what is subnormal in f32 for 0, so such values are left out.
    const normal = values.filter((v) => v === 0 || !(Math.abs(v) < 2 ** -126));
    const got = await cast(tensor(device, Float32Array.from(normal)), dtype).read();
    const wrong = normal.filter((v, i) => !Object.is(got[i], round(Math.fround(v))));
    expect(wrong).toEqual([]);
  },
);
