/** The tensors of one file of a checkpoint. Node only. */
import { loadCheckpoint } from "@rot/models";
import { openFiles } from "@rot/models/node";
import type { Device, Shape, Tensor } from "@rot/tensor";

/**
 * Reads the tensors of a file, in f32.
 *
 * @param folder  of the checkpoint
 * @param shapes  of all that the file holds, by name
 * @returns       by name; the caller's to dispose
 * @throws {WeightsError} when a tensor is missing, unexpected or of another shape
 */
export async function readTensors(
  folder: string,
  file: string,
  shapes: ReadonlyMap<string, Shape>,
  device: Device,
): Promise<Map<string, Tensor>> {
  await using opened = await openFiles(folder, [file]);
  return await loadCheckpoint(opened, { parameters: shapes, linears: new Map() }, device, { dtype: "f32" });
}
