import { key } from "@rot/tensor";
import { expect, test } from "vitest";
import { permutation, sampleOrder } from "./order.ts";

test("a permutation holds every number once, and depends on nothing but its key", () => {
  for (const count of [0, 1, 2, 5, 1000]) {
    const order = permutation(count, key(7));
    expect([...order].toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(permutation(count, key(7))).toEqual(order);
  }
  expect(permutation(1000, key(8))).not.toEqual(permutation(1000, key(7)));
});

test("every place is equally likely for every number", () => {
  const seen = Array.from({ length: 5 }, () => Array<number>(5).fill(0));
  for (let seed = 0; seed < 5000; seed++) {
    for (const [place, number] of permutation(5, key(seed)).entries()) (seen[place] as number[])[number]!++;
  }
  const chiSquare = seen.flat().reduce((total, n) => total + (n - 1000) ** 2 / 1000, 0);
  expect(chiSquare).toBeLessThan(39.3); // 16 degrees of freedom, 0.1 %
});

test("each epoch has every sample once, in another order, and batches run over its end", () => {
  const order = sampleOrder(10, key(1));
  const first = order.take(0, 10);
  const second = order.take(10, 10);
  expect(first.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(new Set(second)).toEqual(new Set(first));
  expect(second).not.toEqual(first);
  expect(order.take(8, 4)).toEqual([...first.slice(8), ...second.slice(0, 2)]);
});

test("a position is reached without walking there", () => {
  expect(sampleOrder(7473, key(3)).take(1_000_000, 3)).toEqual(sampleOrder(7473, key(3)).take(999_999, 4).slice(1));
});
