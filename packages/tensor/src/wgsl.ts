/**
 * The one door to `wgsl-preprocessor`, which ships neither types nor an `exports` map.
 *
 * `#if ${…}` / `#elif ${…}` / `#else` / `#endif` choose lines; `${…}` inserts a constant or a fragment.
 */
import { wgsl as tag } from "wgsl-preprocessor/wgsl-preprocessor.js";
import { UsageError } from "./errors.ts";

export type WgslValue = string | number | boolean;

/** @throws {UsageError} when a value would print as `undefined`, `NaN` or `[object Object]` */
export function wgsl(strings: TemplateStringsArray, ...values: readonly WgslValue[]): string {
  for (const [i, value] of values.entries()) {
    if (!["string", "number", "boolean"].includes(typeof value) || Number.isNaN(value)) {
      throw new UsageError(`wgsl: \${…} number ${i + 1} is ${String(value)}, after "${strings[i]?.slice(-24)}"`);
    }
  }
  return tag(strings, ...values);
}

/**
 * The head of an entry point: `lane` is the invocation within its workgroup, `group` the linear index of the workgroup.
 * Where a long grid is folded into rows, the last groups lie past its end: a kernel compares `group` before it writes.
 * With `subgroups`, `subgroupLane` is the invocation within its subgroup; with `subgroupId`, `subgroup` is the subgroup within
 * the workgroup, for which the text needs `requires subgroup_id;`.
 */
export const main = (lanes: number, { subgroups = false, subgroupId = false } = {}): string => `
  @compute @workgroup_size(${lanes})
  fn main(
    @builtin(workgroup_id) groupId: vec3u,
    @builtin(num_workgroups) groupCount: vec3u,
    @builtin(local_invocation_index) lane: u32,
    ${subgroups ? "@builtin(subgroup_invocation_id) subgroupLane: u32," : ""}
    ${subgroupId ? "@builtin(subgroup_id) subgroup: u32," : ""}
  ) {
    let group = groupId.x + groupCount.x * (groupId.y + groupCount.y * groupId.z);`;

/**
 * The value that one lane of a subgroup holds, in all its lanes. Where eight lanes are an AVX2 register, lavapipe makes one
 * or two instructions of a shuffle and one more of a broadcast; elsewhere its shuffle is a loop.
 */
export const fromLane = (value: string, lane: number, subgroupSize: number): string =>
  `${subgroupSize === 8 ? "subgroupShuffle" : "subgroupBroadcast"}(${value}, ${lane}u)`;
