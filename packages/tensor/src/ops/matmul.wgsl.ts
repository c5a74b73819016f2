/**
 * The matmul kernel: each invocation keeps a tile of `rows` by 4 outputs in registers and walks along k four steps at a
 * time. There is no workgroup memory and no barrier: neighbouring lanes read neighbouring columns, and caches do the rest.
 */
import { type CallableKernel, defineKernel } from "../kernel.ts";
import { main, wgsl } from "../wgsl.ts";

/** What is compiled in: how the operands lie, and which of the three can be read or written four elements at a time. */
export interface Layout {
  /** `a` lies as [k, m], otherwise as [m, k]. */
  readonly transposeA: boolean;
  /** `b` lies as [n, k], otherwise as [k, n]. */
  readonly transposeB: boolean;
  /** The last axes of `a`, `b` and `y` are multiples of 4. */
  readonly wideA: boolean;
  readonly wideB: boolean;
  readonly wideY: boolean;
  /** k is no multiple of 4: what lies past its end counts as 0. */
  readonly ragged: boolean;
}

const LANES = 64;
const STEP = [0, 1, 2, 3] as const;
const AXIS = ["x", "y", "z", "w"] as const;

const uniforms = {
  m: "u32",
  n: "u32",
  k: "u32",
  /** Workgroups along n, along m, and in all. */
  across: "u32",
  down: "u32",
  groups: "u32",
  /** Batches run over [outer, inner]; how far each operand moves along them, in elements. */
  inner: "u32",
  aOuter: "u32",
  aInner: "u32",
  bOuter: "u32",
  bInner: "u32",
} as const;

const knobs = {
  /** Rows of the tile that one invocation keeps. */
  rows: [8, 16, 4, 2, 1],
  /** Invocations of a workgroup side by side along n; the rest of the 64 are along m. */
  wide: [8, 16, 32, 64],
} as const;

export type MatmulKernel = CallableKernel<"a" | "b", "y", never, typeof uniforms, typeof knobs>;

const kernels = new Map<string, MatmulKernel>();

/** The kernel for one layout. */
export function matmulKernel(layout: Layout): MatmulKernel {
  const key = Object.values(layout).join();
  let kernel = kernels.get(key);
  if (!kernel) kernels.set(key, (kernel = build(layout)));
  return kernel;
}

/** Columns that one workgroup covers, and rows. */
export const coverage = (rows: number, wide: number): readonly [columns: number, rows: number] => [
  4 * wide,
  rows * (LANES / wide),
];

function build(layout: Layout): MatmulKernel {
  const form = (wide: boolean): "vec4" | "scalar" => (wide ? "vec4" : "scalar");
  return defineKernel({
    name: "matmul",
    inputs: ["a", "b"],
    outputs: ["y"],
    uniforms,
    knobs,
    forms: () => ({ a: form(layout.wideA), b: form(layout.wideB), y: form(layout.wideY) }),
    source: (bindings, { rows, wide }) => {
      const each = Array.from({ length: rows }, (_, r) => r);
      const a = loadsA(layout, rows);
      const b = loadsB(layout);
      return wgsl`
        ${bindings}
        ${main(LANES)}
          if (group >= u.groups) { return; }
          let column = (group % u.across * ${wide}u + lane % ${wide}u) * 4u;
          let row = (group / u.across % u.down * ${LANES / wide}u + lane / ${wide}u) * ${rows}u;
          let batch = group / (u.across * u.down);
          if (column >= u.n || row >= u.m) { return; }
          let a0 = batch / u.inner * u.aOuter + batch % u.inner * u.aInner;
          let b0 = batch / u.inner * u.bOuter + batch % u.inner * u.bInner;
          ${each.map((r) => `var y${r} = vec4f();`).join(" ")}
          for (var k = 0u; k < u.k; k += 4u) {
            ${layout.ragged ? "let inside = vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(u.k);" : ""}
            ${a.loads.join("\n")}
            ${b.loads.join("\n")}
            ${each.map((r) => `y${r} += ${STEP.map((s) => `${a.at(r, s)} * ${b.at(s)}`).join(" + ")};`).join("\n")}
          }
          let at = (batch * u.m + row) * u.n + column;
          ${each.map((r) => store(r, layout.wideY)).join("\n")}
        }`;
    },
    grid: ({ groups }) => groups,
  });
}

/** Reads a block that is contiguous along `along`, at element `at`: as one vector, or as four numbers. */
const four = (name: string, at: string, wide: boolean): string =>
  wide ? `load_${name}((${at}) / 4u)` : `vec4f(${STEP.map((s) => `load_${name}(${at} + ${s}u)`).join(", ")})`;

/** Four steps of k of each row; `at` is the WGSL of one factor. Reads past the end are safe in WebGPU and go nowhere. */
function loadsA({ transposeA, wideA, ragged }: Layout, rows: number) {
  if (!transposeA) {
    const loads = Array.from({ length: rows }, (_, r) => {
      const value = four("a", `a0 + (row + ${r}u) * u.k + k`, wideA);
      return `let a_${r} = ${ragged ? `select(vec4f(), ${value}, inside)` : value};`;
    });
    return { loads, at: (r: number, s: number) => `a_${r}.${AXIS[s]}` };
  }
  const blocks = Array.from({ length: Math.ceil(rows / 4) }, (_, block) => block);
  const loads = STEP.flatMap((s) =>
    blocks.map((block) => {
      const at = `a0 + (k + ${s}u) * u.m + row + ${4 * block}u`;
      const value =
        rows < 4
          ? `vec4f(${[0, 1, 2, 3].map((r) => (r < rows ? `load_a(${at} + ${r}u)` : "0.0")).join(", ")})`
          : four("a", at, wideA);
      return `let a_${s}_${block} = ${ragged ? `select(vec4f(), ${value}, inside.${AXIS[s]})` : value};`;
    }),
  );
  return { loads, at: (r: number, s: number) => `a_${s}_${r >> 2}.${AXIS[r & 3]}` };
}

/** Four columns at each of four steps of k. */
function loadsB({ transposeB, wideB, ragged }: Layout) {
  if (!transposeB) {
    const loads = STEP.map((s) => {
      const value = four("b", `b0 + (k + ${s}u) * u.n + column`, wideB);
      return `let b_${s} = ${ragged ? `select(vec4f(), ${value}, inside.${AXIS[s]})` : value};`;
    });
    return { loads, at: (s: number) => `b_${s}` };
  }
  const columns = STEP.map((c) => {
    const value = four("b", `b0 + (column + ${c}u) * u.k + k`, wideB);
    return `let t_${c} = ${ragged ? `select(vec4f(), ${value}, inside)` : value};`;
  });
  const turned = STEP.map((s) => `let b_${s} = vec4f(${STEP.map((c) => `t_${c}.${AXIS[s]}`).join(", ")});`);
  return { loads: [...columns, ...turned], at: (s: number) => `b_${s}` };
}

function store(r: number, wide: boolean): string {
  if (wide) return `if (row + ${r}u < u.m) { store_y((at + ${r}u * u.n) / 4u, y${r}); }`;
  return `if (row + ${r}u < u.m) {
    ${STEP.map((c) => `if (column + ${c}u < u.n) { store_y(at + ${r}u * u.n + ${c}u, y${r}.${AXIS[c]}); }`).join("\n")}
  }`;
}
