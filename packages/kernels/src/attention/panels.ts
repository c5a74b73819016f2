/** Attention by panels: a chunk of query rows goes through scores, softmax and product, beside panels of all keys and values. */
import type { Tensor } from "@rot/tensor";
import { type Device, emptyTensor } from "@rot/tensor/kernel";
import { boundsKernel, panelKernels } from "./kernels.ts";
import { packRows, panelSoftmax, ROWS } from "./panels.wgsl.ts";
import { type Attended, type Call, chunksOf, guarded, type Problem, problemOf, rowsAndPairs } from "./problem.ts";

const panelsOf = (n: number, { subgroupSize }: Device): number => Math.ceil(n / (4 * subgroupSize));

/** Whether a call's panels are small enough for one binding each, and its grids for the adapter. */
export function fitsPanels(call: Call): boolean {
  const { device } = call.q;
  const { Lk, K } = call.k.dims("_ Lk _ K");
  const [, pairs] = rowsAndPairs(call);
  const [across, wide] = [panelsOf(Lk, device), panelsOf(call.v.shape[3] as number, device)];
  const column = 16 * device.subgroupSize;
  const bytes = pairs * column * across * Math.max(K, ROWS, wide * 4 * device.subgroupSize);
  const { maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } = device.limits;
  return bytes <= maxStorageBufferBindingSize && Math.max(pairs, Lk) <= maxComputeWorkgroupsPerDimension;
}

/** @param workspace  MiB of scores at one time */
export function attendByPanels(call: Call, workspace: number): Attended {
  const { q, k, v, visible, params } = call;
  const { device } = q;
  const lanes = device.subgroupSize;
  const { B, Lq, H, K } = q.dims("B Lq H K");
  const { Lk, W } = v.dims("_ Lk _ W");
  const problem: Problem = problemOf(call, { rows: ROWS, step: ROWS, columns: 4 * lanes, workspace });
  const { layout, rows, pairs, chunk, pitch } = problem;
  const [across, wide, tiles] = [panelsOf(Lk, device), panelsOf(W, device), Math.ceil(rows / ROWS)];
  const uniforms = { ...problem.uniforms, part: tiles, stride: across };
  const make = (shape: readonly number[], label: string, dtype: "f32" | "i32" = "f32"): Tensor =>
    emptyTensor(device, { shape, dtype }, `attention.${label}`);

  const sequences = visible?.shape[0] ?? 1;
  const bounds = make([sequences, tiles, 4], "bounds", "i32");
  boundsKernel({ ...layout, rules: 0 })({ visible, bounds }, { ...uniforms, pairs: sequences, down: tiles });
  const seen = layout.visible ? bounds : undefined;
  const plain = { ...layout, rules: 0 };
  const keys = make([pairs, across, K, 4 * lanes], "keys");
  const values = make([pairs, wide, pitch, 4 * lanes], "values");
  panelKernels.keys(plain)({ x: k, bounds: seen, y: keys }, uniforms);
  panelKernels.values(plain)({ x: v, bounds: seen, y: values }, { ...uniforms, parts: wide });

  const y = make([B, Lq, H, W], "values");
  const total = make([B, Lq, H], "total");
  const queries = make([pairs, chunk, K], "queries");
  const p = make([pairs, chunk, pitch], "scores");
  const share = make([pairs, chunk], "share");
  for (const of of chunksOf({ ...problem, uniforms })) {
    // No query of the chunk sees a key beyond.
    const end = params.causal ? Lk - Lq + Math.ceil((of.first + chunk) / (rows / Lq)) : Lk;
    const parts = panelsOf(Math.max(0, Math.min(Lk, end)), device);
    packRows({ x: q, y: queries }, {}, of);
    panelKernels.scores(layout)({ a: queries, b: keys, bounds, visible, y: p }, { ...of, parts });
    panelSoftmax({ bounds, p, share, total }, {}, of);
    panelKernels.gather(guarded(layout))({ a: p, b: values, bounds, share, y }, { ...of, parts: wide });
  }
  return { y, total };
}
