/** Reads the golden data of single operators: a folder with `cases.json`, safetensors files and a README with tolerances. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Device } from "../../src/gpu/device.ts";
import { tensor } from "../../src/ops/create.ts";
import { fromBytes, openSafetensors, type Safetensors, toTyped } from "../../src/safetensors/index.ts";
import type { Shape } from "../../src/shape.ts";
import type { Tensor } from "../../src/tensor.ts";
import type { Tolerance } from "../../src/testing.ts";

/** One entry of `cases.json`; keys of tensors by the names the operator gives them. */
export interface GoldenCase {
  readonly op: string;
  readonly case: string;
  readonly file: string;
  readonly attrs: Readonly<Record<string, unknown>>;
  readonly inputs?: Readonly<Record<string, string>>;
  readonly ints?: Readonly<Record<string, string>>;
  readonly outputs?: Readonly<Record<string, string>>;
  readonly upstream?: Readonly<Record<string, string>>;
  readonly grads?: Readonly<Record<string, string>>;
  readonly extra?: Readonly<Record<string, string>>;
  /** Of a record: everything it holds. */
  readonly tensors?: Readonly<Record<string, string>>;
  /** Where a case has its own. */
  readonly tolerance?: Tolerance;
}

/** A tensor of a file as plain numbers. */
export interface Numbers {
  readonly shape: Shape;
  readonly values: readonly number[];
}

/** What the README allows, by the kind of operator. */
export interface Tolerances {
  readonly elementwise: Tolerance;
  readonly product: Tolerance;
  readonly adamw: Tolerance;
}

const own = fileURLToPath(new URL("../golden/ops", import.meta.url));

/** The folder: `$ROT_GOLDEN_DIR/ops`, or our own copy. */
export const folder = process.env["ROT_GOLDEN_DIR"] ? resolve(process.env["ROT_GOLDEN_DIR"], "ops") : own;

/** Every case of the folder. */
export const cases = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as readonly GoldenCase[];

/** The tolerances as the README of the folder states them; ours are the same numbers, for a README that states none. */
export const tolerances = ((): Tolerances => {
  const text = readFileSync(join(folder, "README.md"), "utf8").replace(/\s+/g, " ");
  const number = String.raw`(\d[\d.]*(?:e[+-]?\d+)?)`;
  const find = (pattern: string): (number | undefined)[] =>
    (new RegExp(pattern).exec(text)?.slice(1) ?? []).map((found) => Number(found));
  const both = ([absolute, relative]: (number | undefined)[], usual: number): Tolerance => ({
    absolute: absolute ?? usual,
    relative: relative ?? usual,
  });
  return {
    elementwise: both(find(String.raw`${number} \+ ${number} \* \|b\| for elementwise`), 1e-5),
    product: both(find(String.raw`${number} \+ ${number} \* \|b\| for matrix products`), 1e-4),
    adamw: { absolute: find(String.raw`${number} absolute for AdamW`)[0] ?? 1e-6 },
  };
})();

const files = new Map<string, Promise<Safetensors>>();

function open(file: string): Promise<Safetensors> {
  let found = files.get(file);
  if (!found) files.set(file, (found = openSafetensors(fromBytes(readFileSync(join(folder, file))), { name: file })));
  return found;
}

async function elements(file: string, key: string) {
  const opened = await open(file);
  const bytes = await opened.read(key);
  const entry = opened.tensors.get(key);
  if (!entry) throw new Error(`${file} has no tensor ${key}`);
  return { shape: entry.shape, ...toTyped(entry, bytes) };
}

/** A tensor of a file on the device; int64 becomes i32. */
export async function load(device: Device, file: string, key: string): Promise<Tensor> {
  const { shape, dtype, data } = await elements(file, key);
  return tensor(device, data, { shape, dtype });
}

/** A tensor of a file on the host. */
export async function numbers(file: string, key: string): Promise<Numbers> {
  const { shape, data } = await elements(file, key);
  return { shape, values: Array.from(data) };
}

/** All tensors of one group of a case, read by `read` one after the other. */
export async function all<T>(
  group: Readonly<Record<string, string>> | undefined,
  read: (key: string) => Promise<T>,
): Promise<Record<string, T>> {
  const entries: [string, T][] = [];
  for (const [name, key] of Object.entries(group ?? {})) entries.push([name, await read(key)]);
  return Object.fromEntries(entries);
}
