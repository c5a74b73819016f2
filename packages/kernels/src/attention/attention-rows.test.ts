import { grad, requireGrad, tensor, UsageError, zeros } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { attention } from "./attention.ts";
import { attentionRows } from "./attention-rows.ts";

/** Attention over values that are the unit vectors gives the probabilities themselves. */
test("chosen rows are those of the whole map, averaged over heads", async ({ device, random }) => {
  const [B, Lq, Lk, H, G, K] = [2, 6, 9, 4, 2, 8];
  const [q, k] = [random.normal([B, Lq, H, K]), random.normal([B, Lk, G, K])];
  const units = Float32Array.from({ length: B * Lk * G * Lk }, (_, i) =>
    Math.floor(i / (G * Lk)) % Lk === i % Lk ? 1 : 0,
  );
  const visible = tensor(
    device,
    Int32Array.from({ length: B * Lq * 2 }, (_, i) => [1, 8][i % 2] as number),
    {
      shape: [B, Lq, 2],
      dtype: "i32",
    },
  );
  const options = { causal: true, visible, rules: [{ queries: [3, 5], keys: [2, 4], bias: -0.7 }] } as const;
  const map = attention(q, k, tensor(device, units, { shape: [B, Lk, G, Lk] }), options);
  const want = map.mean(2).slice(null, null, [1, 7]);
  const got = attentionRows(q, k, { ...options, rows: [4, 0], keys: [1, 7] });
  expect(got.shape).toEqual([B, 2, 6]);
  await expect(got.slice(null, [0, 1])).toBeClose(want.slice(null, [4, 5]), { absolute: 1e-6 });
  await expect(got.slice(null, [1, 2])).toBeClose(want.slice(null, [0, 1]), { absolute: 1e-6 });
});

test("gradients flow to queries and keys, and only to the rows that were read", async ({ random }) => {
  const [q, k] = [requireGrad(random.normal([1, 4, 2, 4])), requireGrad(random.normal([1, 4, 2, 4]))];
  const read = attentionRows(q, k, { rows: [2], keys: [0, 2], causal: true });
  const [dq, dk] = (await Promise.all(grad(read.square().sum(), [q, k]).map((g) => g.read()))) as [
    Float32Array,
    Float32Array,
  ];
  const rows = [0, 1, 2, 3].map((row) => dq.slice(8 * row, 8 * row + 8).some((value) => value !== 0));
  expect(rows).toEqual([false, false, true, false]);
  expect(dk.slice(0, 24).every((value) => value !== 0)).toBe(true);
  expect(dk.slice(24).every((value) => value === 0)).toBe(true);
});

test("rows and keys that are not there are refused", ({ device }) => {
  const q = zeros(device, [1, 2, 1, 4]);
  expect(() => attentionRows(q, q, { rows: [2] })).toThrow(UsageError);
  expect(() => attentionRows(q, q, { rows: [] })).toThrow(UsageError);
  expect(() => attentionRows(q, q, { rows: [0], keys: [0, 3] })).toThrow("[0, 3)");
});
