import { afterAll } from "vitest";
import { fromBf16, fromF16, toBf16, toF16 } from "./dtype.ts";
import { defineKernel } from "./kernel.ts";
import { openDevice } from "./gpu/open-device.ts";
import { tensor } from "./ops/create.ts";
import { add } from "./ops/binary.ts";
import { expect, test } from "./testing.ts";
import { main, wgsl } from "./wgsl.ts";

const double = defineKernel({
  name: "test.double",
  inputs: ["x"],
  outputs: ["y"],
  uniforms: { n: "u32", factor: "f32" },
  knobs: { lanes: [64, 128], by: ["add", "multiply"] },
  source: (bindings, { lanes, by }) => wgsl`
    ${bindings}
    ${main(lanes)}
      let i = group * ${lanes}u + lane;
      if (i >= u.n) { return; }
    #if ${by === "add"}
      store_y(i, load_x(i) + load_x(i) * (u.factor - 1.0));
    #else
      store_y(i, load_x(i) * u.factor);
    #endif
    }`,
  grid: ({ n }, { lanes }) => Math.ceil(n / lanes),
});

test("a kernel gives the same at each of its settings, and is named in the memory it holds", async ({
  device,
  random,
}) => {
  const x = random.normal([7, 13]);
  const want = (await x.read()).map((v) => 2 * v);
  expect(double.settings()).toHaveLength(4);
  for (const setting of double.settings()) {
    const { y } = double.with(setting, () => double({ x }, { y: x }, { n: 91, factor: 2 }));
    await expect(y).toBeClose({ shape: [7, 13], values: want }, { relative: 1e-6 });
    y.dispose();
  }
  const { y } = double({ x }, { y: x }, { n: 91, factor: 2 });
  expect(device.memory().labels.get("test.double")).toBe(4 * 91);
  y.dispose();
  expect(device.memory().labels.get("test.double")).toBeUndefined();
});

test("a kernel takes the knobs it prefers for a call, unless a setting is forced or the call names them", async ({
  device,
}) => {
  const told = defineKernel({
    name: "test.told",
    inputs: [],
    outputs: ["y"],
    uniforms: { n: "u32" },
    knobs: { value: [1, 2, 3], needed: [false, true] },
    needs: ({ needed }) => (needed ? ["texture-compression-astc-sliced-3d"] : []),
    prefers: (_, { n }) => (n > 4 ? { value: 2 } : {}),
    source: (bindings, { value }) => wgsl`
      ${bindings}
      ${main(64)}
        if (lane < u.n) { store_y(lane, ${value}.0); }
      }`,
    grid: () => 1,
  });
  const run = (n: number, knobs = {}) =>
    told({}, { y: { shape: [n], dtype: "f32" } }, { n }, { device, knobs }).y.read();
  expect(await run(2)).toEqual(Float32Array.of(1, 1));
  expect((await run(5))[0]).toBe(2);
  expect((await run(5, { value: 3 }))[0]).toBe(3);
  expect((await told.with({ value: 3, needed: false }, () => run(5)))[0]).toBe(3);
  expect((await told.with({ value: 3, needed: false }, () => run(5, { value: 1 })))[0]).toBe(1);
  expect(told.runsOn(device, { value: 1, needed: false })).toBe(true);
  expect(told.runsOn(device, { value: 1, needed: true })).toBe(false);
});

test("a knob can be set for one call", async ({ device }) => {
  const x = tensor(device, [1, 2]);
  const { y } = double({ x }, { y: x }, { n: 2, factor: 3 }, { knobs: { by: "multiply" } });
  await expect(y).toBeClose([3, 6]);
});

test("a 16-bit output is computed in f32 and packed, the odd element too", async ({ device }) => {
  const x = tensor(device, [1, 2.5, -3], { dtype: "bf16" });
  for (const dtype of ["bf16", "f16"] as const) {
    const { y } = double({ x }, { y: { shape: [3], dtype } }, { n: 3, factor: 2 });
    expect(y.dtype).toBe(dtype);
    await expect(y).toBeClose([2, 5, -6]);
  }
});

test("a 16-bit output in vectors of four is rounded as it is stored, in several bindings too", async ({ device }) => {
  const quadruple = defineKernel({
    name: "test.quadruple",
    inputs: ["x"],
    outputs: ["y"],
    uniforms: { n: "u32" },
    knobs: {},
    forms: () => ({ x: "vec4", y: "vec4" }),
    source: (bindings) => wgsl`
      ${bindings} ${main(64)} let i = group * 64u + lane; if (i < u.n) { store_y(i, 4.0 * load_x(i)); } }`,
    grid: ({ n }) => Math.ceil(n / 64),
  });
  const edges = [
    0,
    -0,
    1,
    -1.00390625,
    1.01171875,
    65_504,
    65_520,
    -70_000,
    3e38,
    NaN,
    Infinity,
    2 ** -24,
    3 * 2 ** -25,
    -1e-30,
  ];
  const values = Float32Array.from({ length: 50_000 }, (_, i) => (edges[i] ?? Math.sin(i) * 2 ** ((i % 40) - 20)) / 4);
  using small = await openDevice({ limits: { maxStorageBufferBindingSize: 65_536 }, notice: () => {} });
  for (const on of [device, small]) {
    for (const dtype of ["bf16", "f16"] as const) {
      const x = tensor(on, values);
      const { y } = quadruple({ x }, { y: { shape: x.shape, dtype } }, { n: values.length / 4 });
      const [round, back] = dtype === "bf16" ? [toBf16, fromBf16] : [toF16, fromF16];
      await expect(y).toBeClose(values.map((v) => back(round(4 * v))));
    }
  }
});

test("a kernel that writes in place changes its tensor for every handle on it", async ({ device }) => {
  const increment = defineKernel({
    name: "test.increment",
    inputs: [],
    outputs: [],
    updates: ["x"],
    uniforms: { n: "u32" },
    knobs: {},
    source: (bindings) => wgsl`${bindings} ${main(64)} if (lane < u.n) { store_x(lane, load_x(lane) + 1.0); } }`,
    grid: () => 1,
  });
  const x = tensor(device, [1, 2, 3]);
  const other = x.alias([3, 1]);
  increment({ x }, {}, { n: 3 });
  await expect(other).toBeClose({ shape: [3, 1], values: [2, 3, 4] });
});

test("more than 65,535 workgroups are folded into rows, and none runs past the end", async ({ device }) => {
  const count = 70_001;
  const mark = defineKernel({
    name: "test.mark",
    inputs: [],
    outputs: ["y"],
    uniforms: { groups: "u32" },
    knobs: {},
    source: (bindings) => wgsl`${bindings} ${main(1)} if (group < u.groups) { store_y(group, group + lane); } }`,
    grid: ({ groups }) => groups,
  });
  const { y } = mark({}, { y: { shape: [count], dtype: "u32" } }, { groups: count }, { device });
  const values = await y.read();
  expect(values.every((v, i) => v === i)).toBe(true);
});

test("an upload into memory that recorded work still reads waits its turn", async ({ device }) => {
  const first = tensor(device, [1, 2, 3, 4]);
  const sum = add(first, 10);
  first.dispose();
  const second = tensor(device, [7, 7, 7, 7]); // takes over the memory of `first`
  await expect(sum).toBeClose([11, 12, 13, 14]);
  await expect(second).toBeClose([7, 7, 7, 7]);
});

test("each dispatch can be timed by name", async ({ device, random }) => {
  const x = random.normal([1000]);
  device.startTiming();
  double({ x }, { y: x }, { n: 1000, factor: 2 });
  add(x, 1);
  const times = await device.takeTimes();
  device.stopTiming();
  expect(times.map(({ kernel }) => kernel)).toEqual(["test.double", "add"]);
  for (const { milliseconds, bytes } of times) {
    expect(milliseconds).toBeGreaterThanOrEqual(0);
    expect(bytes).toBe(8000);
  }
});

const lines: string[] = [];
const opened: { destroy(): void }[] = [];
afterAll(() => {
  for (const device of opened) device.destroy();
});

test("the debug ladder prints the device, then each kernel's time and rate, then the WGSL", async () => {
  const notice = (line: string): void => void lines.push(line);
  const loud = await openDevice({ debug: 4, notice });
  opened.push(loud);
  const x = tensor(loud, [1, 2, 3]);
  await double({ x }, { y: x }, { n: 3, factor: 2 }).y.read();
  expect(lines.some((line) => line.startsWith("device: ") && line.includes(loud.kind))).toBe(true);
  expect(lines.some((line) => line.includes("test.double (x [3] f32)") && line.includes("fn main("))).toBe(true);
  expect(lines.some((line) => /^test\.double +\d+\.\d+ ms +(\d+\.\d+|\?) GB\/s$/.test(line))).toBe(true);
});

test("reference kernels and lower limits are settings of a device, not of the process", async ({ device }) => {
  const small = await openDevice({
    kernels: "reference",
    limits: { maxBufferSize: 4096 },
    notice: () => {},
  });
  opened.push(small);
  expect(small.kernels).toBe("reference");
  expect(() => tensor(small, new Float32Array(1025))).toThrow(
    /tensor asks for 4100 bytes; the largest buffer of this adapter has 4096/,
  );
  expect(device.limits.maxBufferSize).toBeGreaterThan(4096);
});
