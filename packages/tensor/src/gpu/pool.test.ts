import { expect, test } from "vitest";
import { OutOfMemoryError } from "../errors.ts";
import type { Faults } from "./faults.ts";
import { BufferPool } from "./pool.ts";

/** A GPU that makes buffers of nothing and counts those that are there. */
function fake(maxBytes = 2 ** 20) {
  const counter = { there: 0 };
  const gpu = {
    createBuffer: () => {
      counter.there++;
      return { destroy: () => counter.there-- };
    },
  } as unknown as GPUDevice;
  const faults = { watch: <T>(_: string, make: () => T): T => make() } as unknown as Faults;
  return { counter, pool: new BufferPool(gpu, maxBytes, faults, 100) };
}

test("an adapter that bears so many buffers gets no more: the one too many is an error, not a crash", () => {
  const { counter, pool } = fake();
  const held = Array.from({ length: 100 }, () => pool.acquire(4, "x"));
  expect(() => pool.acquire(4, "one more")).toThrow(OutOfMemoryError);
  expect(() => pool.acquire(4, "one more")).toThrow(/one more asks for 4 bytes.*there are 100 buffers/);
  for (const buffer of held) pool.release(buffer);
  expect(pool.overfull).toBe(true);
  pool.trim();
  expect(counter.there).toBe(0);
  expect(pool.acquire(8192, "x").capacity).toBe(8192);
});

test("buffers that are used again count once, and few pooled ones are no reason to trim", () => {
  const { counter, pool } = fake();
  for (let i = 0; i < 1000; i++) pool.release(pool.acquire(4, "x"));
  expect(counter.there).toBe(1);
  const held = Array.from({ length: 99 }, () => pool.acquire(4, "x"));
  pool.release(held[0] as (typeof held)[0]);
  expect(pool.overfull).toBe(false);
});

test("a loop keeps the buffers of its round, though they are more than its peak, up to twice as much", () => {
  const { pool } = fake(2 ** 30);
  const round = (...mebibytes: readonly number[]): void => {
    for (const each of mebibytes) pool.release(pool.acquire(each * 2 ** 20, "x"));
  };
  round(40, 48, 40, 48);
  expect(pool.memory()).toMatchObject({ live: 0, peak: 48 * 2 ** 20, pooled: 88 * 2 ** 20 });
  expect(pool.overfull).toBe(false);
  const held = pool.acquire(44 * 2 ** 20, "x");
  expect(pool.overfull).toBe(true);
  pool.release(held);
  expect(pool.overfull).toBe(true);
});
