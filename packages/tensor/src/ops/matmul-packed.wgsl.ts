/**
 * The product of large matrices on CPU adapters with subgroups: both operands are first packed into panels, in the order
 * in which one subgroup reads them. A panel has no odd ends, no transposes and no dtypes, and its lines do not compete for
 * one set of the cache, as the rows of a matrix of 1024 columns do.
 *
 * Panels of `a` are vectors of four along k: [matrix, panel, k / 4, ROWS]. Those of `b` are vectors of four columns:
 * [matrix, panel, k, lanes of a subgroup]. What lies past an end is 0.
 */
import { type CallableKernel, defineKernel } from "../kernel.ts";
import { fromLane, main, wgsl } from "../wgsl.ts";
import { type Ending, endingInputs, endingKey, finish } from "./matmul-ending.wgsl.ts";
import { batchUniforms, count, MEMBER, STEPS, storeRows } from "./matmul.wgsl.ts";

/** Rows of a panel of `a`, and of the tile that a subgroup keeps in registers. */
export const ROWS = 32;

/** How an operand lies, and what it is packed as. */
export interface Packing {
  readonly operand: "a" | "b";
  /** k is the first of its two axes. */
  readonly isKFirst: boolean;
  /** Its last axis is a multiple of 4. */
  readonly wide: boolean;
}

const packUniforms = {
  /** Rows of `a` or columns of `b`, and the first to be packed. */
  length: "u32",
  first: "u32",
  k: "u32",
  panels: "u32",
  /** Steps of four along k. */
  steps: "u32",
  blocks: "u32",
} as const;

type PackKernel = CallableKernel<"x", "y", never, typeof packUniforms, Record<never, never>>;

const packs = new Map<string, PackKernel>();

/** The kernel that packs one operand. */
export function pack(packing: Packing): PackKernel {
  const key = Object.values(packing).join();
  let kernel = packs.get(key);
  if (!kernel) packs.set(key, (kernel = buildPack(packing)));
  return kernel;
}

/** Each invocation packs a block of 4 by 4. */
function buildPack({ operand, isKFirst, wide }: Packing): PackKernel {
  const [inner, outer] = isKFirst ? (["l", "k"] as const) : (["k", "l"] as const);
  const ends = { l: "u.length", k: "u.k" } as const;
  const load = (s: number): string => {
    const at = `start + ${s}u * ${ends[inner]}`;
    const inside = `${outer} + ${s}u < ${ends[outer]}`;
    return wide
      ? `select(vec4f(), load_x((${at}) / 4u), ${inner} < ${ends[inner]} && ${inside})`
      : `select(vec4f(), vec4f(${STEPS.map((c) => `load_x(${at} + ${c}u)`).join(", ")}),
           vec4<bool>(${inside}) & (vec4u(0u, 1u, 2u, 3u) + ${inner} < vec4u(${ends[inner]})))`;
  };
  // Vectors are loaded along the inner axis; `a` wants them along k, `b` along its columns.
  const turns = isKFirst === (operand === "a");
  const vector = (s: number): string =>
    turns ? `vec4f(${STEPS.map((c) => `x_${c}.${MEMBER[s]}`).join(", ")})` : `x_${s}`;
  return defineKernel({
    name: `matmul.pack.${operand}`,
    inputs: ["x"],
    outputs: ["y"],
    uniforms: packUniforms,
    knobs: {},
    forms: () => ({ y: "vec4", ...(wide && { x: "vec4" }) }),
    source(bindings, _, { subgroupSize }) {
      const quads = operand === "a" ? ROWS / 4 : subgroupSize;
      const place = (s: number): string =>
        operand === "a"
          ? `(panel * u.steps + step) * ${ROWS}u + quad * 4u + ${s}u`
          : `((panel * u.steps + step) * 4u + ${s}u) * ${quads}u + quad`;
      return wgsl`
        ${bindings}
        ${main(64)}
          let i = group * 64u + lane;
          if (i >= u.blocks) { return; }
          let quad = i % ${quads}u;
          let step = i / ${quads}u % u.steps;
          let panel = i / (${quads}u * u.steps);
          let k = step * 4u;
          let l = u.first + (panel % u.panels * ${quads}u + quad) * 4u;
          let start = panel / u.panels * u.length * u.k + ${outer} * ${ends[inner]} + ${inner};
          ${STEPS.map((s) => `let x_${s} = ${load(s)};`).join("\n")}
          ${STEPS.map((s) => `store_y(${place(s)}, ${vector(s)});`).join("\n")}
        }`;
    },
    grid: ({ blocks }) => Math.ceil(blocks / 64),
  });
}

const uniforms = {
  m: "u32",
  n: "u32",
  firstRow: "u32",
  firstColumn: "u32",
  steps: "u32",
  /** Panels of `b` and of `a`, and tiles in all. */
  across: "u32",
  down: "u32",
  tiles: "u32",
  ...batchUniforms,
} as const;

type PanelKernel = CallableKernel<string, never, "y", typeof uniforms, Record<never, never>>;

const kernels = new Map<string, PanelKernel>();

/**
 * The kernel that multiplies panels. Each workgroup is one subgroup, and makes a tile of {@link ROWS} rows and a panel's columns.
 *
 * @param adds  to what `y` holds
 */
export function panels(ending: Ending, wideY: boolean, adds: boolean): PanelKernel {
  const key = `${endingKey(ending)} ${wideY} ${adds}`;
  let kernel = kernels.get(key);
  if (!kernel) kernels.set(key, (kernel = buildPanels(ending, wideY, adds)));
  return kernel;
}

function buildPanels(ending: Ending, wideY: boolean, adds: boolean): PanelKernel {
  const stored = ["y", ...Object.keys(endingInputs(ending))];
  return defineKernel({
    name: "matmul.panels",
    inputs: ["a", "b", ...Object.keys(endingInputs(ending))],
    outputs: [],
    updates: ["y"],
    uniforms,
    knobs: {},
    forms: () => ({
      a: "vec4",
      b: "vec4",
      ...Object.fromEntries(stored.map((name) => [name, wideY ? "vec4" : "scalar"] as const)),
    }),
    source(bindings, _, { subgroupSize: lanes }) {
      const factor = (r: number, s: number): string =>
        fromLane(`a_${Math.floor(r / lanes)}.${MEMBER[s]}`, r % lanes, lanes);
      // Loads first: on a CPU every load is a loop with branches, around which a compiler spills what it has at hand.
      return wgsl`
        enable subgroups;
        ${bindings}
        ${finish(ending, wideY, adds)}
        ${main(lanes, { subgroups: true })}
          if (group >= u.tiles) { return; }
          let panel = group % u.across;
          let block = group / u.across % u.down;
          let batch = group / (u.across * u.down);
          var atA = batch / u.inner * u.aOuter + batch % u.inner * u.aInner + block * u.steps * ${ROWS}u + subgroupLane;
          var atB = batch / u.inner * u.bOuter + batch % u.inner * u.bInner + panel * u.steps * ${4 * lanes}u + subgroupLane;
          ${count(ROWS)
            .map((r) => `var y_${r} = vec4f();`)
            .join(" ")}
          for (var step = 0u; step < u.steps; step++) {
            ${count(ROWS / lanes)
              .map((i) => `let a_${i} = load_a(atA + ${i * lanes}u);`)
              .join("\n")}
            ${STEPS.map((s) => `let b_${s} = load_b(atB + ${s * lanes}u);`).join("\n")}
            ${count(ROWS)
              .map((r) => `y_${r} += ${STEPS.map((s) => `${factor(r, s)} * b_${s}`).join(" + ")};`)
              .join("\n")}
            atA += ${ROWS}u;
            atB += ${4 * lanes}u;
          }
          let row = u.firstRow + block * ${ROWS}u;
          let column = u.firstColumn + (panel * ${lanes}u + subgroupLane) * 4u;
          ${storeRows(ROWS, wideY, "(batch * u.m + row + r) * u.n", "row + r < u.m")}
        }`;
    },
    grid: ({ tiles }) => tiles,
  });
}
