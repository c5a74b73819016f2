/** Adapters added to the weights they are on, one weight at a time. */
import { type Lora, loraFrom, tensorSource, weightsOf } from "@rot/models";
import { loadAdapter } from "@rot/models/node";
import { type Device, tensor as deviceTensor } from "@rot/tensor";
import { deviceDType, type FileDType, fileDTypeBits, toTyped } from "@rot/tensor/safetensors";
import { readAll } from "../chunks.ts";
import { adaptedPath } from "../import/names.ts";
import type { ExportSource, ExportTensor } from "./source.ts";

/** Weights with their adapters in them. Dispose it when all are written. */
export interface Merged {
  readonly model: ReadonlyMap<string, ExportTensor>;
  readonly dispose: () => void;
}

/**
 * Replaces the weights that have adapters by W + scaling · B·A, summed in f32 and rounded to the dtype of W. Each is made
 * on the device when its turn comes to be written.
 *
 * @param rows  of the token tables
 */
export async function mergeAdapters(source: ExportSource, rows: number, device: Device): Promise<Merged> {
  const model = await source.model(rows);
  if (source.adapter.size === 0) return { model, dispose: () => {} };
  const { linears } = source.describe(rows).architecture;
  const lora = await loadAdapter(source.folder, linears, device);
  for (const path of new Set([...lora.parameters.keys()].map(adaptedPath))) {
    const key = `${path}.weight`;
    const shape = linears.get(path) as readonly [number, number];
    model.set(key, mergedTensor(model.get(key) as ExportTensor, { path, shape, lora, device, file: source.folder }));
  }
  return { model, dispose: () => lora.dispose() };
}

interface Merging {
  readonly path: string;
  readonly shape: readonly [outputs: number, inputs: number];
  readonly lora: Lora;
  readonly device: Device;
  readonly file: string;
}

function mergedTensor(weight: ExportTensor, { path, shape, lora, device, file }: Merging): ExportTensor {
  const key = `${path}.weight`;
  // F64 has no place on the device.
  const dtype: FileDType = weight.dtype === "F64" ? "F32" : weight.dtype;
  const own = new Map([...lora.parameters].filter(([name]) => adaptedPath(name) === path));
  return {
    dtype,
    shape,
    bytes: (shape[0] * shape[1] * fileDTypeBits[dtype]) / 8,
    async *stream() {
      const { data } = toTyped({ name: key, dtype: weight.dtype }, await readAll(weight.stream()));
      const W = deviceTensor(device, data, { shape, dtype: deviceDType[dtype] ?? "f32" });
      try {
        loraFrom(lora.config, new Map([[path, shape]]), own, file).merge(weightsOf(new Map([[key, W]]), device));
        yield* bytesOf(key, W as Parameters<typeof tensorSource>[1]);
      } finally {
        W.dispose();
      }
    },
  };
}

async function* bytesOf(name: string, tensor: Parameters<typeof tensorSource>[1]): AsyncGenerator<Uint8Array> {
  const { data } = tensorSource(name, tensor);
  yield* (data as () => AsyncIterable<Uint8Array>)();
}
