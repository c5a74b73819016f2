/** What the device can do at most, measured by kernels that do nothing else: multiply-adds in registers, and a copy. */
import { binary, type Device, full, scope } from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import { type Contestant, interleave, median, onDevice } from "./timing.ts";

/** 10⁹ operations and 10⁹ bytes a second. */
export interface Peaks {
  readonly gigaflops: number;
  readonly gigabytes: number;
}

/** Vectors of four that each lane keeps, and steps of the chain it carries each through. */
const [ACCUMULATORS, STEPS, LOOPS, GROUPS] = [4, 8, 256, 512];

const chain = defineKernel({
  name: "probe.fma",
  inputs: ["x"],
  outputs: ["y"],
  uniforms: { loops: "u32" },
  knobs: {},
  forms: () => ({ x: "vec4", y: "vec4" }),
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let a = load_x(lane);
      let b = load_x(lane + 64u);
      ${Array.from({ length: ACCUMULATORS }, (_, i) => `var c${i} = a * ${i + 1}.5;`).join(" ")}
      for (var i = 0u; i < u.loops; i++) {
        ${Array.from({ length: STEPS }, () => Array.from({ length: ACCUMULATORS }, (_, i) => `c${i} = c${i} * a + b;`).join(" ")).join("\n")}
      }
      store_y(group * 64u + lane, ${Array.from({ length: ACCUMULATORS }, (_, i) => `c${i}`).join(" + ")});
    }`,
  grid: () => GROUPS,
});

/** What copies fastest on a CPU adapter, where small workgroups cost more than what they move; a GPU does not mind. */
const [LANES, COPIES] = [256, 4];

const copy = defineKernel({
  name: "probe.copy",
  inputs: ["x"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: {},
  forms: () => ({ x: "words4", y: "words4" }),
  source: (bindings) => wgsl`
    ${bindings}
    ${main(LANES)}
      for (var j = 0u; j < ${COPIES}u; j++) {
        let i = (group * ${COPIES}u + j) * ${LANES}u + lane;
        if (i < u.n) { store_y(i, load_x(i)); }
      }
    }`,
  grid: ({ n }) => Math.ceil(n / LANES / COPIES),
});

/** Elements of the copy: 64 MiB, more than any cache holds. */
const COPIED = 2 ** 24;

/** Measures both peaks: the best of some rounds. */
export async function measurePeaks(device: Device, rounds: number): Promise<Peaks> {
  const seeds = full(device, [512], 0.5);
  const large = full(device, [COPIED], 1);
  const fma = onDevice(device, {
    run: () => chain({ x: seeds }, { y: { shape: [GROUPS * 256], dtype: "f32" } }, { loops: LOOPS }),
  });
  const moves = onDevice(device, { run: () => copy({ x: large }, { y: large }, { n: COPIED / 4 }) });
  const results = await interleave([fma, moves], { rounds });
  const best = (contestant: Contestant): number => {
    const times = results.get(contestant);
    if (!times || times instanceof Error) throw times ?? new Error("the probe was not timed");
    return Math.min(...times);
  };
  seeds.dispose();
  large.dispose();
  return {
    gigaflops: (2 * 4 * 64 * GROUPS * LOOPS * STEPS * ACCUMULATORS) / best(fma) / 1e6,
    gigabytes: (8 * COPIED) / best(moves) / 1e6,
  };
}

/** Microseconds of JavaScript to record a dispatch: additions on 256 elements, each to the result of the one before. */
export async function measureDispatch(device: Device, rounds: number): Promise<number> {
  const start = full(device, [256], 1);
  const times: number[] = [];
  for (let round = -WARM_ROUNDS; round < rounds; round++) {
    await device.sync();
    // So few wait to be sent: a software adapter does not yet compute beside, on the same cores.
    const from = performance.now();
    scope(() => {
      let x = start;
      for (let i = 0; i < RECORDED; i++) x = binary.add(x, 1);
    });
    if (round >= 0) times.push((1000 * (performance.now() - from)) / RECORDED);
    await device.sync();
  }
  start.dispose();
  return median(times);
}

const RECORDED = 200;
/** After so many rounds the engine of JavaScript has compiled what it means to; the first take ten times as long. */
const WARM_ROUNDS = 40;
