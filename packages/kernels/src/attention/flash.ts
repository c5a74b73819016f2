/** Attention in one kernel, for GPUs. */
import { emptyTensor } from "@rot/tensor/kernel";
import { COLUMNS, MOST_WIDTH, ROWS } from "./flash.wgsl.ts";
import { boundsKernel, flashKernel } from "./kernels.ts";
import { type Attended, type Call, problemOf, rowsAndPairs } from "./problem.ts";

/** Whether the sums of a call fit the registers, and its grid the adapter. */
export function fitsFlash(call: Call): boolean {
  const [rows, pairs] = rowsAndPairs(call);
  const most = call.q.device.limits.maxComputeWorkgroupsPerDimension;
  return (call.v.shape[3] as number) <= MOST_WIDTH && pairs <= most && rows / ROWS <= most;
}

export function attendByFlash(call: Call): Attended {
  const { q, k, v, visible } = call;
  const { device } = q;
  const { B, Lq, H } = q.dims("B Lq H _");
  const W = v.shape[3] as number;
  const { layout, rows, uniforms } = problemOf(call, { rows: ROWS, step: ROWS, columns: 4, workspace: 0 });
  const down = Math.ceil(rows / ROWS);
  const sequences = visible?.shape[0] ?? 1;
  const bounds = emptyTensor(device, { shape: [sequences, down, 4], dtype: "i32" }, "attention.bounds");
  boundsKernel({ ...layout, rules: 0 })({ visible, bounds }, { ...uniforms, pairs: sequences, down });
  const y = emptyTensor(device, { shape: [B, Lq, H, W], dtype: "f32" }, "attention");
  const total = emptyTensor(device, { shape: [B, Lq, H], dtype: "f32" }, "attention.total");
  flashKernel(layout, Math.ceil(W / COLUMNS))({ q, k, v, bounds, visible, y, total }, { ...uniforms, down });
  return { y, total };
}
