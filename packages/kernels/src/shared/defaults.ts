/** What suits which adapter, in one place, until a tuner measures it. */
import type { Device } from "@rot/tensor/kernel";
import type { RowSetting } from "./rows.wgsl.ts";

/**
 * How many lanes serve a row.
 *
 * On a CPU adapter a barrier costs as much as dozens of elements, and so a row goes to one subgroup. On a GPU lanes are
 * many, and a long row is worth a whole workgroup.
 *
 * @param steps  loads that one row takes: elements, or vectors of four
 */
export function rowSetting({ kind, subgroupSize, features }: Device, steps: number): RowSetting {
  const subgroups = features.has("subgroups") && subgroupSize > 0;
  if (kind !== "hardware") return { lanes: subgroups && subgroupSize >= 8 ? 8 : 4, subgroups };
  return { lanes: steps <= 128 ? 32 : 256, subgroups };
}

/** Invocations that keep a device busy: work that is summed in two rounds is split into about so many parts. */
export const busyLanes = ({ kind }: Device): number => (kind === "hardware" ? 65_536 : 4096);
