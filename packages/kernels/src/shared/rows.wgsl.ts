/**
 * Rows: a tensor seen as a matrix, its last axis and all the others folded into one. A kernel gives each row to some lanes
 * of its workgroup, which walk it together and add up what they found.
 */
import { type Device, main } from "@rot/tensor/kernel";

/** The knobs of every row kernel: lanes that share a row, and whether they add up through subgroups. */
export const rowKnobs = { lanes: [32, 4, 8, 256], subgroups: [false, true] } as const;

/** One value for each of {@link rowKnobs}. */
export interface RowSetting {
  readonly lanes: (typeof rowKnobs.lanes)[number];
  readonly subgroups: boolean;
}

/** The feature that a setting asks for. */
export const rowNeeds = ({ subgroups }: RowSetting): readonly GPUFeatureName[] =>
  // The name is newer than the type.
  subgroups ? ["subgroups" as GPUFeatureName] : [];

const workgroup = (lanes: number): number => Math.max(64, lanes);

/** Workgroups for so many rows. */
export const rowGroups = (rows: number, { lanes }: RowSetting): number => Math.ceil((rows * lanes) / workgroup(lanes));

/** The first line of a row kernel's source. */
export const enableSubgroups = ({ subgroups }: RowSetting): string => (subgroups ? "enable subgroups;" : "");

/**
 * Opens an entry point over rows: `row` is the one this invocation works on, `own` its place among the lanes that share
 * it. Past the end `row` repeats the last one, so that barriers stay uniform; `live` is false there.
 *
 * @param rows  how many there are, in WGSL; or blocks of rows, and `row` is a block
 */
export const openRow = ({ lanes }: RowSetting, rows = "u.rows"): string => `
  ${main(workgroup(lanes))}
    let rows = ${rows};
    if (group * ${workgroup(lanes) / lanes}u >= rows) { return; }
    let own = lane % ${lanes}u;
    let place = group * ${workgroup(lanes) / lanes}u + lane / ${lanes}u;
    let live = place < rows;
    let row = min(place, rows - 1u);`;

/** `V`, what one load of a kernel gives, and `across(v) -> f32`, the sum of its members. */
export const vectors = (wide: boolean): string =>
  wide
    ? "alias V = vec4f; fn across(v: V) -> f32 { return (v.x + v.y) + (v.z + v.w); }"
    : "alias V = f32; fn across(v: V) -> f32 { return v; }";

/**
 * WGSL for `NAME(value, lane) -> type`: the sum of `value` over the lanes of a row, in each of them, always added in the same
 * order. Every invocation of the workgroup calls it. Subgroups are taken to hold neighbouring lanes, as those of workgroups
 * with one axis do.
 */
export function rowSum(name: string, type: "f32" | "vec2f", { lanes, subgroups }: RowSetting, device: Device): string {
  const inRegisters = subgroups ? device.subgroupSize : 0;
  const memory = `var<workgroup> partial_${name}: array<${type}, ${workgroup(lanes)}>;`;
  const open = `fn ${name}(value: ${type}, lane: u32) -> ${type} {`;
  if (lanes === inRegisters) return `${open} return subgroupAdd(value); }`;
  if (lanes < inRegisters) {
    const steps = doublings(lanes).map((step) => `total += subgroupShuffleXor(total, ${step}u);`);
    return `${open} var total = value; ${steps.join(" ")} return total; }`;
  }
  if (inRegisters > 0) {
    const parts = lanes / inRegisters;
    return `
      ${memory}
      ${open}
        let part = subgroupAdd(value);
        if (lane % ${inRegisters}u == 0u) { partial_${name}[lane / ${inRegisters}u] = part; }
        workgroupBarrier();
        let first = lane / ${lanes}u * ${parts}u;
        var total = partial_${name}[first];
        for (var i = 1u; i < ${parts}u; i++) { total += partial_${name}[first + i]; }
        workgroupBarrier();
        return total;
      }`;
  }
  // Halving, the lanes of a row among themselves.
  const stages = doublings(lanes)
    .toReversed()
    .map(
      (half) =>
        `if (own < ${half}u) { partial_${name}[lane] += partial_${name}[lane + ${half}u]; } workgroupBarrier();`,
    );
  return `
    ${memory}
    ${open}
      let own = lane % ${lanes}u;
      partial_${name}[lane] = value;
      workgroupBarrier();
      ${stages.join("\n      ")}
      let total = partial_${name}[lane - own];
      workgroupBarrier();
      return total;
    }`;
}

/** 1, 2, 4 and so on, below `n`. */
function doublings(n: number): number[] {
  const out: number[] = [];
  for (let step = 1; step < n; step *= 2) out.push(step);
  return out;
}
