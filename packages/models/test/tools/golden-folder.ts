/** Reads golden data of models: a folder with a README that states the tolerance, `index.json`, and safetensors files. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type Device, type Shape, tensor, type Tensor } from "@rot/tensor";
import { fromBytes, openSafetensors, type Safetensors, toTyped } from "@rot/tensor/safetensors";

/** `$ROT_GOLDEN_DIR/name`, or our own copy of it. */
export function goldenFolder(name: string): string {
  const own = fileURLToPath(new URL("../golden", import.meta.url));
  return resolve(process.env["ROT_GOLDEN_DIR"] ?? own, name);
}

/** A JSON file. */
export const json = <T>(...path: string[]): T => JSON.parse(readFileSync(join(...path), "utf8")) as T;

/**
 * What the README allows, relative to the largest value of a tensor.
 *
 * @throws {Error} when it states none
 */
export function toleranceOf(folder: string): number {
  const stated = /Tolerance:\s+([\d.]+(?:e-?\d+)?)\s+relative/.exec(
    readFileSync(join(folder, "README.md"), "utf8"),
  )?.[1];
  if (!stated) throw new Error(`${folder}/README.md states no tolerance`);
  return Number(stated);
}

/** A tensor on the host. */
export interface HostTensor {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
}

/** A safetensors file, read as a whole. */
export class GoldenFile {
  readonly #file: Safetensors;

  private constructor(file: Safetensors) {
    this.#file = file;
  }

  static async open(...path: string[]): Promise<GoldenFile> {
    const file = join(...path);
    return new GoldenFile(await openSafetensors(fromBytes(readFileSync(file)), { name: file }));
  }

  get keys(): string[] {
    return [...this.#file.tensors.keys()];
  }

  has(key: string): boolean {
    return this.#file.tensors.has(key);
  }

  async #typed(key: string) {
    const bytes = await this.#file.read(key);
    const entry = this.#file.tensors.get(key);
    if (!entry) throw new Error(`there is no tensor ${key}`);
    return { shape: entry.shape, ...toTyped(entry, bytes) };
  }

  /** Values of a tensor; int64 becomes i32. */
  async host(key: string): Promise<HostTensor> {
    const { shape, data, dtype } = await this.#typed(key);
    if (dtype === "bf16" || dtype === "f16") throw new Error(`${key} is ${dtype}: read it on the device`);
    return { shape, values: data };
  }

  /** Rows of whole numbers: the last axis of a tensor, all others one after the other. */
  async rows(key: string): Promise<number[][]> {
    const { shape, values } = await this.host(key);
    const width = shape.at(-1) ?? 1;
    return Array.from({ length: values.length / width }, (_, i) =>
      Array.from({ length: width }, (_unused, j) => values[i * width + j] as number),
    );
  }

  async device(device: Device, key: string): Promise<Tensor> {
    const { shape, dtype, data } = await this.#typed(key);
    return tensor(device, data, { shape, dtype });
  }
}

/** Every tensor of a checkpoint folder on the device, whether it is one file or several. */
export async function checkpointTensors(device: Device, folder: string): Promise<Map<string, Tensor>> {
  const files = readdirSync(folder).filter((name) => /^model(-\d+-of-\d+)?\.safetensors$/.test(name));
  if (files.length === 0 || !existsSync(join(folder, "config.json"))) throw new Error(`${folder} is no checkpoint`);
  const tensors = new Map<string, Tensor>();
  for (const name of files) {
    const file = await GoldenFile.open(folder, name);
    for (const key of file.keys) tensors.set(key, await file.device(device, key));
  }
  return tensors;
}
