/**
 * Lines: a tensor seen as [outer, width, inner] has outer · inner of them, each `width` elements long and `inner` apart.
 * A kernel gives each line to 1, 8 or 64 lanes of its workgroup.
 */
import type { Device } from "../gpu/device.ts";
import { type Shape, size } from "../shape.ts";
import { main } from "../wgsl.ts";

/** Lanes that share one line. */
export type LineLanes = 1 | 8 | 64;

/** Every choice of {@link LineLanes}, for a kernel's knobs. */
export const lineLanes = [64, 8, 1] as const satisfies readonly LineLanes[];

/** Lanes in the workgroup of every line kernel. */
const WORKGROUP = 64;

/**
 * How many lanes serve a line well: a barrier costs as much as dozens of elements on a software adapter, and lanes that
 * walk lines of their own read scattered memory on a GPU.
 *
 * @param lines  how many lines there are
 */
export function lanesOf(width: number, inner: number, lines: number): LineLanes {
  if (inner > 1) return width <= 64 || lines >= 1024 ? 1 : 64;
  return width <= 128 ? 1 : width <= 1024 ? 8 : 64;
}

/** Lines that keep every core of a CPU adapter busy with one lane each. */
const MANY = 512;

/**
 * The same for lines that are read four elements at a time. The lanes of a CPU adapter gather all they read, wherever it
 * lies, and so a lane that walks a line of its own costs no more than its neighbours on the same line, and spares the barriers.
 *
 * @param steps  vectors in a line
 */
export function wideLanesOf({ kind }: Device, steps: number, lines: number): LineLanes {
  if (kind !== "hardware" && lines >= MANY) return 1;
  return steps <= 32 ? 1 : steps <= 256 ? 8 : 64;
}

/** A tensor as its lines see it. */
export interface Lines {
  readonly outer: number;
  readonly width: number;
  readonly inner: number;
}

/** The lines of a shape along one axis, counted from the front. */
export const linesAlong = (shape: Shape, axis: number): Lines => ({
  outer: size(shape.slice(0, axis)),
  width: shape[axis] as number,
  inner: size(shape.slice(axis + 1)),
});

/** Invocations that keep a large device busy; few long lines are split into chunks. */
const BUSY = 4096;
/** Elements that one lane should at least go over before a second round pays. */
const LEAST_STEP = 64;

/** Into how many chunks each line is best split. */
export function chunksOf({ outer, width, inner }: Lines): number {
  const lines = outer * inner;
  const lanes = inner === 1 ? WORKGROUP : 1;
  const most = Math.ceil(width / (LEAST_STEP * lanes));
  return lines === 0 ? 1 : Math.max(1, Math.min(most, Math.ceil(BUSY / (lines * lanes))));
}

/** Workgroups for so many lines. */
export const lineGroups = (lines: number, lanes: LineLanes): number => Math.ceil((lines * lanes) / WORKGROUP);

/**
 * Opens an entry point over `lines` (a WGSL expression): `line` is the one this invocation works on, `own` its place among
 * the lanes that share it. Past the end `line` repeats the last one, so that barriers stay uniform; `live` is false there.
 */
export const openLine = (lanes: LineLanes, lines: string): string => `
  ${main(WORKGROUP)}
    if (group * ${WORKGROUP / lanes}u >= ${lines}) { return; }
    let own = lane % ${lanes}u;
    let place = group * ${WORKGROUP / lanes}u + lane / ${lanes}u;
    let live = place < ${lines};
    let line = min(place, ${lines} - 1u);`;

/** Declares what {@link foldLine} needs: `combine_NAME(a, b)` over values of `type`, and the memory to do it in. */
export const lineFold = (lanes: LineLanes, name: string, type: string, combined: string): string => `
  fn combine_${name}(a: ${type}, b: ${type}) -> ${type} { ${combined} }
  ${lanes === 1 ? "" : `var<workgroup> shared_${name}: array<${type}, ${WORKGROUP}>;`}`;

/**
 * Combines a variable over the lanes of a line, always in the same order; afterwards they all hold the result.
 * Eight at a time: fewer barriers than halving.
 */
export function foldLine(lanes: LineLanes, name: string, variable: string): string {
  if (lanes === 1) return "";
  const stage = (step: number): string => `
    workgroupBarrier();
    if (own % ${step * 8}u == 0u) {
      for (var other = 1u; other < 8u; other++) {
        ${variable} = combine_${name}(${variable}, shared_${name}[lane + other * ${step}u]);
      }
      shared_${name}[lane] = ${variable};
    }`;
  return `
    shared_${name}[lane] = ${variable};
    ${lanes === 64 ? stage(1) + stage(8) : stage(1)}
    workgroupBarrier();
    ${variable} = shared_${name}[lane - own];`;
}
