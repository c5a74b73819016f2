/**
 * What suits which adapter where the tuner has not measured the one at hand.
 *
 * Those of software adapters were measured on lavapipe with subgroups of 8 and SwiftShader with subgroups of 4, two cores
 * each. Those of hardware are a large discrete GPU's by its data sheet, and were not measured.
 */
import type { Device } from "@rot/tensor/kernel";
import type { ElementSetting } from "./elements.wgsl.ts";
import type { RowSetting } from "./rows.wgsl.ts";

/**
 * How many lanes serve a row.
 *
 * On a CPU adapter a barrier costs as much as dozens of elements, and so a row goes to one subgroup, or half of one where
 * it is so short that adding up its lanes weighs: rows of 128 then take 0.65 to 0.85 of the time. A single row would leave
 * the rest of its workgroup idle: half of a workgroup takes 0.38 to 0.83 of the time. On a GPU lanes are many, and a long
 * row is worth a whole workgroup.
 *
 * @param steps  loads that one row takes: elements, or vectors of four
 */
export function rowSetting({ kind, subgroupSize, features }: Device, rows: number, steps: number): RowSetting {
  const subgroups = features.has("subgroups") && subgroupSize > 0;
  if (kind === "hardware") return { lanes: steps <= 128 ? 32 : 256, subgroups };
  if (rows === 1) return { lanes: 32, subgroups };
  return { lanes: subgroupSize >= 8 && steps > 32 ? 8 : 4, subgroups };
}

/**
 * How many rows share each load of what all rows have in common: with four, CPU adapters take 0.7 to 0.87 of the time, as
 * long as there are enough of them for every core.
 */
export const rowBlock = ({ kind }: Device, rows: number): 1 | 4 => (kind !== "hardware" && rows >= 64 ? 4 : 1);

/**
 * How many elements a lane takes where it reads two and writes one: several save a CPU adapter the start of a workgroup,
 * and take 0.54 to 0.8 of the time.
 */
export const elementSetting = ({ kind }: Device): ElementSetting => ({ each: kind === "hardware" ? 1 : 4 });

/** The same where a lane reads three and writes two: lavapipe then gains nothing, SwiftShader takes 0.72 to 0.79. */
export const heavyElementSetting = ({ kind }: Device): ElementSetting => ({ each: kind === "embedded" ? 4 : 1 });

/** How many rows a lane turns by one angle. With 16 CPU adapters take 0.53 to 0.88 of the time they take with 4. */
export const rotarySetting = ({ kind }: Device): { readonly each: 4 | 16 } => ({ each: kind === "hardware" ? 4 : 16 });

/** Invocations that keep a device busy: work that is summed in two rounds is split into about so many parts. */
export const busyLanes = ({ kind }: Device): number => (kind === "hardware" ? 65_536 : 4096);
