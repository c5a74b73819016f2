/**
 * The kernels of the matrix product. `tiles` keep a block of outputs in the registers of each invocation and walk along
 * k four steps at a time, without workgroup memory: neighbouring lanes read neighbouring columns, and caches do the rest.
 * `plain` is for products so small that compiling a tile would take longer than it saves.
 */
import { type CallableKernel, defineKernel, type Setting } from "../kernel.ts";
import { fromLane, main, wgsl } from "../wgsl.ts";
import { type Ending, endingInputs, endingKey, finish } from "./matmul-ending.wgsl.ts";

/** What is compiled in: how the operands lie, and which of the three can be read or written four elements at a time. */
export interface Layout {
  /** `a` lies as [k, m], otherwise as [m, k]. */
  readonly transposeA: boolean;
  /** `b` lies as [n, k], otherwise as [k, n]. */
  readonly transposeB: boolean;
  /** The last axis is a multiple of 4. */
  readonly wideA: boolean;
  readonly wideB: boolean;
  readonly wideY: boolean;
  /** k is no multiple of 4: what lies past its end counts as 0. */
  readonly ragged: boolean;
  /** Factors are rounded to f16; their products at four steps of k are added there, and the rest in f32. */
  readonly half: boolean;
}

/** How a workgroup's lanes lie over its block of the result. Each lane owns 4 columns. */
interface Lanes {
  readonly lanes: number;
  /** Lanes side by side along n. */
  readonly across: number;
  /** Lanes that share the steps of k of one tile, and add up in the end. */
  readonly slices: number;
  /** Each lane loads a part of `a` and hands it round its subgroup: on a CPU every load is a loop over the lanes. */
  readonly shared: boolean;
}

const arrangements = {
  /** For GPUs: 64 columns by 4 tiles of rows, whose loads of `a` meet in the cache. */
  block: { lanes: 64, across: 16, slices: 1, shared: false },
  /** For CPU adapters with subgroups. */
  shared: { lanes: 16, across: 16, slices: 1, shared: true },
  /** For few rows and `b` as [k, n]. */
  columns: { lanes: 64, across: 16, slices: 4, shared: false },
  /** For few rows and `b` as [n, k]: lanes read along k. */
  dots: { lanes: 64, across: 1, slices: 64, shared: false },
} as const satisfies Record<string, Lanes>;

const knobs = {
  /** Rows of the tile that one invocation keeps. */
  rows: [8, 16, 4, 1, 32],
  arrangement: ["block", "shared", "columns", "dots"],
} as const;

export type Tile = Setting<typeof knobs>;

/** Columns and rows of the result that one workgroup makes. */
export function coverage({ rows, arrangement }: Tile): readonly [columns: number, rows: number] {
  const { lanes, across, slices } = arrangements[arrangement];
  return [4 * across, (rows * lanes) / across / slices];
}

/** Batches run over [outer, inner]; each operand moves along them by so many elements. */
export const batchUniforms = { inner: "u32", aOuter: "u32", aInner: "u32", bOuter: "u32", bInner: "u32" } as const;

/** What a kernel is told that makes its result in tiles. */
export const tileUniforms = {
  m: "u32",
  n: "u32",
  k: "u32",
  /** Workgroups along n, along m, and in all. */
  across: "u32",
  down: "u32",
  groups: "u32",
  ...batchUniforms,
} as const;

type TileKernel = CallableKernel<string, "y", never, typeof tileUniforms, typeof knobs>;

const kernels = new Map<string, TileKernel>();

/** The tiled kernel of one layout and ending. */
export function tiles(layout: Layout, ending: Ending): TileKernel {
  const key = `${Object.values(layout).join()} ${endingKey(ending)}`;
  let kernel = kernels.get(key);
  if (!kernel) kernels.set(key, (kernel = build(layout, ending)));
  return kernel;
}

export const STEPS = [0, 1, 2, 3] as const;
export const MEMBER = ["x", "y", "z", "w"] as const;
export const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

function build(layout: Layout, ending: Ending): TileKernel {
  const more = Object.keys(endingInputs(ending));
  const form = (wide: boolean): "vec4" | "scalar" => (wide ? "vec4" : "scalar");
  return defineKernel({
    name: "matmul",
    inputs: ["a", "b", ...more],
    outputs: ["y"],
    uniforms: tileUniforms,
    knobs,
    forms: ({ rows }) => ({
      a: form(wideA(layout, rows)),
      b: form(layout.wideB),
      ...Object.fromEntries(["y", ...more].map((name) => [name, form(layout.wideY)])),
    }),
    source(bindings, { rows, arrangement }, { subgroupSize }) {
      const { lanes, across, slices, shared } = arrangements[arrangement];
      const a = shared ? sharedA(layout, rows, subgroupSize) : ownA(layout, rows);
      const first = slices > 1 ? `lane / ${across}u * 4u` : "0u";
      const b = loadB(layout, first, slices);
      return wgsl`
        #if ${shared}
          enable subgroups;
        #endif
        #if ${layout.half}
          enable f16;
        #endif
        ${bindings}
        #if ${slices > 1}
          var<workgroup> partial: array<vec4f, ${lanes * rows}>;
        #endif
        ${finish(ending, layout.wideY)}
        ${main(lanes, { subgroups: shared })}
          if (group >= u.groups) { return; }
          let column = (group % u.across * ${across}u + lane % ${across}u) * 4u;
          let row = (group / u.across % u.down * ${lanes / across / slices}u + lane / ${across}u % ${lanes / across / slices}u) * ${rows}u;
          let batch = group / (u.across * u.down);
          let batchA = batch / u.inner * u.aOuter + batch % u.inner * u.aInner;
          let batchB = batch / u.inner * u.bOuter + batch % u.inner * u.bInner;
          ${a.start}
          ${b.start}
          ${count(rows)
            .map((r) => `var y_${r} = vec4f();`)
            .join(" ")}
          for (var k = ${first}; k < u.k; k += ${4 * slices}u) {
            ${layout.ragged ? "let inside = vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(u.k);" : ""}
            ${a.loads.join("\n")}
            ${b.loads.join("\n")}
            ${layout.half ? STEPS.map((s) => `let half_${s} = vec4h(b_${s});`).join(" ") : ""}
            ${count(rows)
              .map((r) => {
                if (!layout.half) return `y_${r} += ${STEPS.map((s) => `${a.at(r, s)} * b_${s}`).join(" + ")};`;
                return `y_${r} += vec4f(${STEPS.map((s) => `f16(${a.at(r, s)}) * half_${s}`).join(" + ")});`;
              })
              .join("\n")}
            ${a.next}
            ${b.next}
          }
          #if ${slices > 1}
            ${count(rows)
              .map((r) => `partial[${r * lanes}u + lane] = y_${r};`)
              .join("\n")}
            for (var half = ${lanes / 2}u; half >= ${across}u; half /= 2u) {
              workgroupBarrier();
              if (lane < half) {
                ${count(rows)
                  .map((r) => `partial[${r * lanes}u + lane] += partial[${r * lanes}u + lane + half];`)
                  .join("\n")}
              }
            }
            if (lane >= ${across}u) { return; }
            ${count(rows)
              .map((r) => `y_${r} = partial[${r * lanes}u + lane];`)
              .join("\n")}
          #endif
          ${storeRows(rows, layout.wideY, "(batch * u.m + row + r) * u.n", "row + r < u.m")}
        }`;
    },
    grid: ({ groups }) => groups,
  });
}

/**
 * Stores the rows `y_0`, `y_1` and so on of a tile at `column`, finished. In a loop that is not unrolled: stores are much
 * code where y takes several bindings.
 *
 * @param start   where row `r` of the tile begins in `y`
 * @param inside  whether it is one of y's
 */
export function storeRows(rows: number, wide: boolean, start: string, inside: string): string {
  const store = wide
    ? "if (column < u.n) { let at = (start + column) / 4u; store_y(at, finish(tile[r], at, column / 4u)); }"
    : `for (var c = 0u; c < 4u && column + c < u.n; c++) {
         let at = start + column + c;
         store_y(at, finish(tile[r][c], at, column + c));
       }`;
  return `
    let tile = array<vec4f, ${rows}>(${count(rows)
      .map((r) => `y_${r}`)
      .join(", ")});
    for (var r = 0u; r < ${rows}u && ${inside}; r++) {
      let start = ${start};
      ${store}
    }`;
}

/** Below four rows a tile need not begin at a multiple of 4. */
const wideA = ({ transposeA, wideA }: Layout, rows: number): boolean => wideA && !(transposeA && rows < 4);

/** Four elements from `at` on, which counts vectors where the form is wide and elements otherwise. */
const four = (name: string, at: string, wide: boolean): string =>
  wide ? `load_${name}(${at})` : `vec4f(${STEPS.map((s) => `load_${name}(${at} + ${s}u)`).join(", ")})`;

const masked = (value: string, mask: string, ragged: boolean): string =>
  ragged ? `select(vec4f(), ${value}, ${mask})` : value;

/*
 * The parts of `a` and `b` that a tile reads at four steps of k. `at(row, step)` is the WGSL of one factor. Rows and columns
 * past the end are read all the same: WebGPU makes that safe, and what comes of them is not stored.
 */

/** Each lane loads the rows of its own tile. */
function ownA(layout: Layout, rows: number) {
  const { transposeA, ragged } = layout;
  const wide = wideA(layout, rows);
  const unit = wide ? 4 : 1;
  if (!transposeA) {
    return {
      start: `let strideA = u.k / ${unit}u; let startA = (batchA + row * u.k) / ${unit}u;`,
      next: "",
      loads: count(rows).map((r) => {
        const value = four("a", `startA + ${r}u * strideA + k / ${unit}u`, wide);
        return `let a_${r} = ${masked(value, "inside", ragged)};`;
      }),
      at: (r: number, s: number) => `a_${r}.${MEMBER[s]}`,
    };
  }
  return {
    start: `let strideA = u.m / ${unit}u; let startA = (batchA + row) / ${unit}u;`,
    next: "",
    loads: STEPS.flatMap((s) =>
      count(Math.ceil(rows / 4)).map((block) => {
        const value = four("a", `startA + (k + ${s}u) * strideA + ${(4 * block) / unit}u`, wide);
        return `let a_${s}_${block} = ${masked(value, `inside.${MEMBER[s]}`, ragged)};`;
      }),
    ),
    at: (r: number, s: number) => `a_${s}_${r >> 2}.${MEMBER[r & 3]}`,
  };
}

/** Each lane of a subgroup loads four elements of `a` for all; a load covers as many rows as the subgroup has lanes. */
function sharedA(layout: Layout, rows: number, subgroup: number) {
  const { transposeA, ragged } = layout;
  const wide = wideA(layout, rows);
  const unit = wide ? 4 : 1;
  const position = (load: number): string =>
    transposeA ? `atA + ${(load * subgroup) / unit}u` : `atA + ${load * subgroup}u * strideA`;
  return {
    start: transposeA
      ? `let strideA = u.m / ${unit}u;
         var atA = (batchA + row) / ${unit}u + subgroupLane % 4u * strideA + subgroupLane / 4u * ${4 / unit}u;`
      : `let strideA = u.k / ${unit}u; var atA = (batchA + row * u.k) / ${unit}u + subgroupLane * strideA;`,
    next: transposeA ? "atA += 4u * strideA;" : `atA += ${4 / unit}u;`,
    loads: count(Math.ceil(rows / subgroup)).map((load) => {
      const mask = transposeA ? "k + subgroupLane % 4u < u.k" : "inside";
      return `let a_${load} = ${masked(four("a", position(load), wide), mask, ragged)};`;
    }),
    at(r: number, s: number) {
      const within = r % subgroup;
      const [member, lane] = transposeA ? [r & 3, (within >> 2) * 4 + s] : [s, within];
      return fromLane(`a_${Math.floor(r / subgroup)}.${MEMBER[member]}`, lane, subgroup);
    },
  };
}

/** Each lane loads its four columns. It begins at `first` along k, and `slices` lanes share the steps. */
function loadB({ transposeB, wideB, ragged }: Layout, first: string, slices: number) {
  const unit = wideB ? 4 : 1;
  if (!transposeB) {
    return {
      start: `let strideB = u.n / ${unit}u; var atB = (batchB + column) / ${unit}u + ${first} * strideB;`,
      next: `atB += ${4 * slices}u * strideB;`,
      loads: STEPS.map((s) => {
        const value = four("b", `atB + ${s}u * strideB`, wideB);
        return `let b_${s} = ${masked(value, `inside.${MEMBER[s]}`, ragged)};`;
      }),
    };
  }
  return {
    start: `let strideB = u.k / ${unit}u; var atB = (batchB + column * u.k + ${first}) / ${unit}u;`,
    next: `atB += ${(4 * slices) / unit}u;`,
    loads: [
      ...STEPS.map((c) => {
        const value = four("b", `atB + ${c}u * strideB`, wideB);
        return `let column_${c} = ${masked(value, "inside", ragged)};`;
      }),
      ...STEPS.map((s) => `let b_${s} = vec4f(${STEPS.map((c) => `column_${c}.${MEMBER[s]}`).join(", ")});`),
    ],
  };
}

const plainUniforms = {
  m: "u32",
  n: "u32",
  k: "u32",
  size: "u32",
  rowA: "u32",
  stepA: "u32",
  stepB: "u32",
  columnB: "u32",
  ...batchUniforms,
} as const;

type PlainKernel = CallableKernel<string, "y", never, typeof plainUniforms, Record<never, never>>;

const plains = new Map<string, PlainKernel>();

/** One output an invocation, whatever the layout: only the strides differ. */
export function plain(ending: Ending): PlainKernel {
  const key = endingKey(ending);
  let kernel = plains.get(key);
  if (!kernel) plains.set(key, (kernel = buildPlain(ending)));
  return kernel;
}

const buildPlain = (ending: Ending): PlainKernel =>
  defineKernel({
    name: "matmul.plain",
    inputs: ["a", "b", ...Object.keys(endingInputs(ending))],
    outputs: ["y"],
    uniforms: plainUniforms,
    knobs: {},
    source: (bindings) => wgsl`
      ${bindings}
      ${finish(ending, false)}
      ${main(64)}
        let i = group * 64u + lane;
        if (i >= u.size) { return; }
        let batch = i / (u.m * u.n);
        var a = batch / u.inner * u.aOuter + batch % u.inner * u.aInner + i / u.n % u.m * u.rowA;
        var b = batch / u.inner * u.bOuter + batch % u.inner * u.bInner + i % u.n * u.columnB;
        var y = 0.0;
        for (var k = 0u; k < u.k; k++) {
          y += load_a(a) * load_b(b);
          a += u.stepA;
          b += u.stepB;
        }
        store_y(i, finish(y, i, i % u.n));
      }`,
    grid: ({ size }) => Math.ceil(size / 64),
  });
