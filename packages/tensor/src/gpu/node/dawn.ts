/** Dawn, the WebGPU of Chromium, as the npm package `webgpu` brings it to Node. */
import { DeviceError } from "../../errors.ts";
import type { AdapterKind, FoundAdapter } from "../adapter.ts";
import { listening } from "./native.ts";
import { importOptional } from "./optional.ts";
import type { Candidate } from "./source.ts";

/** What the package `webgpu` exports. */
export interface Dawn {
  create(options: string[]): GPU;
}

type Opened = Pick<FoundAdapter, "gpu" | "adapter">;

/** Lets an adapter offer what is experimental, such as subgroup matrices; used is what a device asks for. */
const EXPERIMENTAL = "enable-dawn-features=allow_unsafe_apis";

/** No adapter is called so; being refused, Dawn lists the names of those there are. */
const NO_NAME = "adapter=\u{1}";

/**
 * The adapters that Dawn sees now, the one it prefers first.
 *
 * @param within  runs what touches Dawn, with the environment that it must see
 * @throws {DeviceError} when there is none
 */
export async function listAdapters(
  within: <T>(action: () => Promise<T>) => Promise<T> = (action) => action(),
): Promise<Candidate[]> {
  const dawn = await loadDawn();
  const names = await within(() => adapterNames(dawn));
  // Only where there is a choice: making an instance of a real GPU's driver takes a while.
  const preferred = names.length > 1 ? (await within(() => request(dawn, []))).adapter.info.device : undefined;
  return names
    .toSorted((a, b) => Number(normalised(b) === preferred) - Number(normalised(a) === preferred))
    .map((name) => ({
      name,
      kind: kindOf(name),
      origin: "",
      open: () => within(() => request(dawn, [`adapter=${name}`])),
    }));
}

/** Software adapters by their names: Mesa's, Chromium's, Windows'. */
export function kindOf(name: string): AdapterKind {
  return /llvmpipe|lavapipe|swiftshader|softpipe|basic render/i.test(name) ? "software" : "hardware";
}

/** Reads the names out of Dawn's answer to a wish for an adapter that does not exist. */
export function namesInRefusal(message: string): string[] {
  const names = [...message.matchAll(/^ \* backend: '(?!null)[^']*', name: '(.*)'$/gm)].map((match) => match[1] ?? "");
  return [...new Set(names)].filter((name) => name !== "");
}

/** Dawn itself. @throws {DeviceError} when it is not installed or does not load: then no adapter helps */
export async function loadDawn(): Promise<Dawn> {
  const dawn = await importOptional<Dawn>("webgpu");
  if (!dawn) throw new DeviceError("the npm package webgpu is not installed; `npm install webgpu` adds it");
  return dawn;
}

async function adapterNames(dawn: Dawn): Promise<string[]> {
  const { result, printed } = await listening(() => dawn.create([NO_NAME]).requestAdapter());
  const names = await result.then(
    () => [],
    (error: unknown) => namesInRefusal(String((error as Error).message)),
  );
  if (names.length === 0) throw new DeviceError(`Dawn finds no adapter${firstWarning(printed)}`);
  return names;
}

async function request(dawn: Dawn, options: string[]): Promise<Opened> {
  const gpu = dawn.create([...options, EXPERIMENTAL]);
  const { result, printed } = await listening(() => gpu.requestAdapter({ powerPreference: "high-performance" }));
  const adapter = await result;
  if (!adapter) throw new DeviceError(`Dawn opens no adapter${firstWarning(printed)}`);
  return { gpu, adapter };
}

function firstWarning(printed: string): string {
  const line = /^(?:Warning|Error): (?!.*artificially reduced)(.*)/m.exec(printed)?.[1];
  return line === undefined ? "" : ` (${line})`;
}

/** A name as `GPUAdapterInfo.device` gives it. */
function normalised(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
}
