/** Progress of an export, by the bytes of its tensors. */
import type { TensorSource } from "@rot/tensor/safetensors";
import type { OnProgress } from "../files.ts";
import type { TensorToWrite } from "../torch-pickle/writer.ts";
import type { ExportTensor } from "./source.ts";

/** Makes what writers take of tensors, and counts what they write. */
export interface Counter {
  /** Bytes of all tensors so far. */
  readonly total: number;
  torch(tensor: ExportTensor): TensorToWrite;
  safetensors(name: string, tensor: ExportTensor): TensorSource;
}

/** A counter; declare every tensor before the first is written. */
export function counting(onProgress?: OnProgress): Counter {
  let [done, total] = [0, 0];
  const counted = ({ bytes, stream }: ExportTensor) => {
    total += bytes;
    return async function* () {
      for await (const chunk of stream()) {
        yield chunk;
        done += chunk.length;
        onProgress?.({ done, total, unit: "bytes" });
      }
    };
  };
  return {
    get total() {
      return total;
    },
    torch: (tensor) => ({ dtype: tensor.dtype, shape: tensor.shape, data: counted(tensor) }),
    safetensors: (name, tensor) => ({ name, dtype: tensor.dtype, shape: tensor.shape, data: counted(tensor) }),
  };
}
