/**
 * The product of one or two rows with a matrix that lies as [n, k], for CPU adapters: each lane walks along a row of `b` of
 * its own, four words at a load, and each factor of `a` is loaded by one lane for its whole subgroup. A wider tile would walk
 * along more rows at once than the first cache has ways where their length is a power of two.
 */
import { bits, type DType } from "../dtype.ts";
import type { Device } from "../gpu/device.ts";
import { type CallableKernel, defineKernel } from "../kernel.ts";
import { fromLane, main, wgsl } from "../wgsl.ts";
import { type Ending, endingInputs, endingKey, finish } from "./matmul-ending.wgsl.ts";
import { isVectorUnit, type Plan } from "./matmul-plan.ts";
import { count, MEMBER, tileUniforms } from "./matmul.wgsl.ts";

const knobs = {
  /** Of `a`. */
  rows: [1, 2],
} as const;

/** Elements of k in one turn of the loop, of which k is a multiple. */
const TURN = 32;
/** Of a workgroup. */
const SUBGROUPS = 4;

/** Columns and rows of the result that one workgroup makes. */
export const vectorCoverage = ({ subgroupSize }: Device, rows: number): readonly [columns: number, rows: number] => [
  SUBGROUPS * subgroupSize,
  rows,
];

/** Whether this kernel can make a product. */
export const servesVector = ({ a, dtype, transposes, windowed, m, k }: Plan): boolean =>
  isVectorUnit(a.device) &&
  !transposes.transposeA &&
  transposes.transposeB &&
  !windowed &&
  m <= 2 &&
  k % TURN === 0 &&
  bits(dtype) === 32;

type VectorKernel = CallableKernel<string, "y", never, typeof tileUniforms, typeof knobs>;

const kernels = new Map<string, VectorKernel>();

/** @param stored  the dtype of `b`, which is unpacked here */
export function vector(stored: DType, ending: Ending): VectorKernel {
  const key = `${stored} ${endingKey(ending)}`;
  let kernel = kernels.get(key);
  if (!kernel) kernels.set(key, (kernel = build(stored, ending)));
  return kernel;
}

/** How one load of `b` becomes elements: `element(load, i)` is the WGSL of the i-th. */
function reading(stored: DType) {
  if (bits(stored) !== 16) {
    return {
      form: "vec4",
      perLoad: 4,
      unpack: () => "",
      element: (load: number, i: number) => `b_${load}.${MEMBER[i]}`,
    } as const;
  }
  const unpack = (load: number): string =>
    stored === "bf16"
      ? `let even_${load} = bitcast<vec4f>(b_${load} << vec4u(16u));
         let odd_${load} = bitcast<vec4f>(b_${load} & vec4u(0xffff0000u));`
      : `let even_${load} = vec4f(${MEMBER.map((word) => `unpack2x16float(b_${load}.${word}).x`).join(", ")});
         let odd_${load} = vec4f(${MEMBER.map((word) => `unpack2x16float(b_${load}.${word}).y`).join(", ")});`;
  const element = (load: number, i: number): string => `${i % 2 === 0 ? "even" : "odd"}_${load}.${MEMBER[i >> 1]}`;
  return { form: "words4", perLoad: 8, unpack, element } as const;
}

function build(stored: DType, ending: Ending): VectorKernel {
  const { form, perLoad, unpack, element } = reading(stored);
  const loads = count(TURN / perLoad);
  return defineKernel({
    name: "matmul",
    inputs: ["a", "b", ...Object.keys(endingInputs(ending))],
    outputs: ["y"],
    uniforms: tileUniforms,
    knobs,
    needs: () => ["subgroups"],
    forms: () => ({ a: "vec4", b: form }),
    source(bindings, { rows }, { subgroupSize }) {
      const lanes = SUBGROUPS * subgroupSize;
      // Lane l holds the vector l of each of these loads, of which a turn needs TURN / 4.
      const parts = count(Math.ceil(TURN / 4 / subgroupSize));
      const factor = (r: number, i: number): string => {
        const at = i >> 2;
        return fromLane(`a_${r}_${Math.floor(at / subgroupSize)}.${MEMBER[i & 3]}`, at % subgroupSize, subgroupSize);
      };
      const products = (r: number, load: number): string =>
        count(perLoad)
          .map((i) => `${element(load, i)} * ${factor(r, perLoad * load + i)}`)
          .join(" + ");
      return wgsl`
        enable subgroups;
        ${bindings}
        ${finish(ending, false)}
        ${main(lanes, { subgroups: true })}
          if (group >= u.groups) { return; }
          let column = group % u.across * ${lanes}u + lane;
          let row = group / u.across % u.down * ${rows}u;
          let batch = group / (u.across * u.down);
          let batchA = batch / u.inner * u.aOuter + batch % u.inner * u.aInner;
          let batchB = batch / u.inner * u.bOuter + batch % u.inner * u.bInner;
          let strideA = u.k / 4u;
          var atA = batchA / 4u + row * strideA + subgroupLane;
          var atB = (batchB + column * u.k) / ${perLoad}u;
          ${count(rows)
            .map((r) => `var y_${r} = 0.0;`)
            .join(" ")}
          for (var k = 0u; k < u.k; k += ${TURN}u) {
            ${count(rows)
              .flatMap((r) =>
                parts.map((p) => `let a_${r}_${p} = load_a(atA + ${r}u * strideA + ${p * subgroupSize}u);`),
              )
              .join("\n")}
            ${loads.map((load) => `let b_${load} = load_b(atB + ${load}u);`).join("\n")}
            ${loads
              .map(
                (load) =>
                  `${unpack(load)} ${count(rows)
                    .map((r) => `y_${r} += ${products(r, load)};`)
                    .join("\n")}`,
              )
              .join("\n")}
            atA += ${TURN / 4}u;
            atB += ${TURN / perLoad}u;
          }
          if (column < u.n) {
            let at = (batch * u.m + row) * u.n + column;
            ${count(rows)
              .map((r) => {
                const place = `at + ${r}u * u.n`;
                const store = `store_y(${place}, finish(y_${r}, ${place}, column));`;
                return r === 0 ? store : `if (row + ${r}u < u.m) { ${store} }`;
              })
              .join("\n")}
          }
        }`;
    },
    grid: ({ groups }) => groups,
  });
}
