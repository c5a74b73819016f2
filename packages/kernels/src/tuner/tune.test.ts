import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addmm_, matmul, openDevice, scope, tensor, type Tensor, zeros } from "@rot/tensor";
import { defineKernel, type Device, main, type Tuned, wgsl } from "@rot/tensor/kernel";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Random } from "@rot/tensor/cases";
import { cases } from "../rms-norm/rms-norm.cases.ts";
import { linear } from "../linear/linear.ts";
import { rmsNorm } from "../rms-norm/rms-norm.ts";
import { collectCalls, freeCall } from "./calls.ts";
import { problems } from "./problems.ts";
import { choicesOf, printSetting, tuneCalls, withTuning } from "./tune.ts";

/** y is the setting that a call ran at, so that a test sees it. */
const telling = (text: string) =>
  defineKernel({
    name: "test.telling",
    inputs: ["x"],
    outputs: ["y"],
    uniforms: { n: "u32", scale: "f32" },
    knobs: { value: [1, 2, 3], form: [0, 10] },
    prefers: () => ({ value: 2 }),
    needs: ({ value }) => (value === 3 ? ["texture-compression-astc-sliced-3d" as GPUFeatureName] : []),
    source: (bindings, { value, form }) => wgsl`
      ${bindings}
      // ${text}
      ${main(64)}
        if (lane < u.n) { store_y(lane, ${value + form}.0 + 0.0 * load_x(lane)); }
      }`,
    grid: () => 1,
  });
const kernel = telling("as it is");

let device: Device;
beforeEach(async () => {
  device = await openDevice({ tune: "off", notice: () => {} });
});
afterEach(() => device.destroy());

const run = (n: number, knobs = {}, which = kernel): Promise<Float32Array> => {
  const x = tensor(device, new Float32Array(n));
  return which({ x }, { y: x }, { n, scale: 0.5 }, { knobs }).y.read() as Promise<Float32Array>;
};
const value = async (...args: Parameters<typeof run>): Promise<number | undefined> => (await run(...args))[0];

/** What a tuner would have chosen for a call. */
async function chosen(setting: Tuned["setting"], n: number, knobs = {}): Promise<Tuned> {
  const collector = collectCalls(device);
  await run(n, knobs);
  const [call] = collector.take();
  collector.stop();
  if (!call) throw new Error("nothing was collected");
  freeCall(call);
  return { kernel: call.kernel, source: call.source, problem: call.problem, setting, ratio: 0.5 };
}

test("a device follows a choice for calls of its class, dtypes and named knobs, and goes back for all others", async () => {
  expect(await value(20)).toBe(2);
  device.tunings.add([await chosen({ value: 1, form: 0 }, 20)]);
  expect([await value(16), await value(63), await value(15), await value(64)]).toEqual([1, 1, 2, 2]);
  expect([await value(20, { value: 2 }), await value(20, { form: 10 })]).toEqual([2, 12]);
  device.tunings.add([await chosen({ value: 1, form: 10 }, 20, { form: 10 })]);
  expect([await value(20, { form: 10 }), await value(20)]).toEqual([11, 1]);
  const forced = kernel.with({ value: 2, form: 0 }, () => run(20));
  expect((await forced)[0]).toBe(2);
});

test("a choice for another text, for no setting that is left, or one that the device cannot run, counts for nothing", async () => {
  const one = await chosen({ value: 1, form: 0 }, 300);
  const choices = [
    { ...one, source: "0123456789abcdef" },
    { ...one, setting: { value: 4, form: 0 } },
    { ...one, setting: { value: 3, form: 0 } },
    { ...one, setting: { value: 1 } },
    { ...one, setting: {} },
  ];
  for (const choice of choices) {
    device.tunings.add([choice]);
    expect(await value(300), JSON.stringify(choice)).toBe(2);
  }
  device.tunings.add([one]);
  expect(await value(300)).toBe(1);
  expect(await value(300, {}, telling("as it was later"))).toBe(2);
});

test("each unknown call is set aside once, as it was before it ran, unless nothing is to choose or it is too large", async () => {
  const collector = collectCalls(device, (name) => name.startsWith("test."), 4000);
  const x = tensor(device, new Float32Array(900).fill(5));
  for (const _ of [1, 2]) scope(() => void kernel({ x }, { y: x }, { n: 900, scale: 1 }));
  x.assign(tensor(device, new Float32Array(900)));
  await run(5, { value: 1, form: 0 }); // both knobs named
  await run(5);
  await run(2000);
  const calls = collector.take();
  expect(calls.map(({ tensors }) => tensors["x"]?.shape)).toEqual([[900], [5]]);
  expect([...collector.skipped]).toEqual(["test.telling"]);
  expect(((await calls[0]?.tensors["x"]?.read()) ?? [])[899]).toBe(5);
  // Without the one that the device cannot run, and what it runs untuned first.
  expect(calls[0]?.settings.map(printSetting)).toEqual([
    "value=2 form=0",
    "value=1 form=0",
    "value=1 form=10",
    "value=2 form=10",
  ]);
  calls.forEach(freeCall);
  await run(70); // which nobody takes
  expect(device.memory().labels.get("copy")).toBeGreaterThan(0);
  collector.stop();
  expect(device.tunings.collect).toBeUndefined();
  expect(device.memory().labels.get("copy")).toBeUndefined();
});

test("settings that disagree are told apart on a device", async () => {
  const collector = collectCalls(device);
  await run(1000);
  const [measured] = await tuneCalls(device, collector.take(), { rounds: 1 });
  collector.stop();
  expect(measured?.candidates.map(({ verdict }) => verdict)).toEqual(["timed", "differs", "differs", "differs"]);
  expect(measured?.choice).toMatchObject({ setting: { value: 2, form: 0 }, ratio: 1 });
});

test("with ROT_TUNE=full what was not known is tuned after it ran, and stored; otherwise it just runs", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rot-tuner-"));
  const full = await openDevice({ tune: "full", debug: 0, notice: () => {} });
  const x = tensor(full, new Float32Array(7));
  const f = (): Promise<ArrayLike<number>> => kernel({ x }, { y: x }, { n: 7, scale: 1 }).y.read();
  vi.stubEnv("ROT_CACHE", folder);
  try {
    expect((await withTuning(full, f))[0]).toBe(2);
    expect(full.tunings.collect).toBeUndefined();
    const [file] = readdirSync(join(folder, "render-of-thought"));
    const text = readFileSync(join(folder, "render-of-thought", file as string), "utf8");
    expect((JSON.parse(text) as { choices: Tuned[] }).choices).toMatchObject([
      { kernel: "test.telling", setting: { value: 2, form: 0 }, ratio: 1 },
    ]);
    await expect(withTuning(full, () => Promise.reject(new Error("stop")))).rejects.toThrow("stop");
    expect(full.tunings.collect).toBeUndefined();

    rmSync(folder, { recursive: true });
    const y = tensor(device, new Float32Array(7));
    expect(await withTuning(device, () => kernel({ x: y }, { y }, { n: 7, scale: 1 }).y.shape)).toEqual([7]);
    expect(existsSync(folder)).toBe(false);
  } finally {
    vi.unstubAllEnvs();
    full.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("the tuner says each choice at ROT_DEBUG=3", async () => {
  const lines: string[] = [];
  const loud = await openDevice({ tune: "off", debug: 3, notice: (line) => lines.push(line) });
  const x = tensor(loud, new Float32Array(7));
  const collector = collectCalls(loud);
  await kernel({ x }, { y: x }, { n: 7, scale: 1 }).y.read();
  await tuneCalls(loud, collector.take(), { rounds: 1 });
  collector.stop();
  loud.destroy();
  const said = lines.filter((line) => line.startsWith("tuner:"));
  expect(said[0]).toBe("tuner: test.telling (x [7] f32): value=2 form=0, 1 of the usual time");
  expect(said.slice(1)).toEqual(
    [1, 11, 12].map((got) => expect.stringMatching(` is out: result 0 is ${got} instead of 2 at element 0$`) as string),
  );
});

test("a setting that does not compile is out, and the device goes on", async () => {
  const broken = defineKernel({
    name: "test.broken",
    inputs: ["x"],
    outputs: ["y"],
    uniforms: { n: "u32" },
    knobs: { way: ["nonsense(1)", "2.0", "(1.0 + 1.0)"] },
    prefers: () => ({ way: "2.0" }),
    source: (bindings, { way }) => wgsl`
      ${bindings}
      ${main(64)}
        if (lane < u.n) { store_y(lane, load_x(lane) * ${way}); }
      }`,
    grid: () => 1,
  });
  const x = tensor(device, [3, 4]);
  const collector = collectCalls(device);
  const y = (): Promise<ArrayLike<number>> => broken({ x }, { y: x }, { n: 2 }).y.read();
  await y();
  const [measured] = await tuneCalls(device, collector.take(), { rounds: 1 });
  collector.stop();
  expect(measured?.candidates.map(({ verdict }) => verdict)).toEqual(["timed", "failed", "timed"]);
  expect(measured?.candidates[1]?.reason).toContain("nonsense");
  expect(await y()).toEqual(Float32Array.of(6, 8));
});

test("tuning RMSNorm changes no result beyond its tolerance, and the same choices give the same bits", async () => {
  const few = cases.cases.filter((_, i) => i % 3 === 0);
  const collector = collectCalls(device, (name) => name.startsWith("rmsNorm."));
  const results = (): Promise<ArrayLike<number>[]> =>
    Promise.all(few.map((one, i) => rmsNorm(...(inputs[i] as [Tensor, Tensor]), one.params).read()));
  const inputs = few.map((one) => one.inputs(new Random(device)));
  const untuned = await results();
  const measured = await tuneCalls(device, collector.take(), { rounds: 1 });
  collector.stop();
  expect(measured.length).toBeGreaterThan(2);
  // Every sound setting, not only the one that was fastest today.
  for (const { candidates } of measured) {
    for (const { reason } of candidates) expect(reason).toBeUndefined();
  }
  for (const at of [0, 1, 2, 3]) {
    const choices = choicesOf(measured).map((choice, i) => {
      const { candidates } = measured[i] as (typeof measured)[0];
      return { ...choice, setting: (candidates[at % candidates.length] as (typeof candidates)[0]).setting };
    });
    device.tunings.add(choices);
    const [tuned, again] = [await results(), await results()];
    expect(again).toEqual(tuned);
    for (const [i, values] of tuned.entries()) {
      const want = untuned[i] as ArrayLike<number>;
      const scale = Math.max(...Array.from(want, Math.abs));
      const worst = Math.max(...Array.from(values, (v, j) => Math.abs(v - (want[j] as number))));
      expect(worst / scale).toBeLessThan((few[i] as (typeof few)[0]).tolerance.forward);
    }
  }
});

/** Products with an ending, with a sum that is cut, and added to what is there; of few rows, which compile soon. */
const products = (random: Random): (() => Tensor)[] => {
  const [x, w, bias] = [random.normal([2, 36]), random.normal([40, 36]), random.normal([40])];
  const [tallA, tallB, row] = [random.normal([4096, 3]), random.normal([4096, 12]), random.normal([1, 36])];
  return [
    () => linear(x, w, bias, { activation: "gelu" }),
    () => matmul(tallA, tallB, { transposeA: true }),
    () => addmm_(zeros(x.device, [1, 40]), row, w, { transposeB: true }),
  ];
};

test("matmul is tuned as a whole: every way agrees, and whichever is chosen is the one that runs", async () => {
  const all = products(new Random(device));
  const collector = collectCalls(device, (name) => name === "matmul");
  const untuned = await Promise.all(all.map((product) => product().read()));
  const measured = await tuneCalls(device, collector.take(), { rounds: 1 });
  collector.stop();
  // The parts of the sum that is cut are a product of their own.
  expect(measured.length).toBe(all.length + 1);
  for (const { candidates, choice } of measured) {
    expect(candidates.length).toBeGreaterThan(3);
    const knobs = candidates.map(({ setting }) => Object.entries(setting).map(String).toSorted().join());
    expect(new Set(knobs).size).toBe(knobs.length);
    for (const { reason } of candidates) expect(reason).toBeUndefined();
    expect(candidates.map(({ setting }) => setting)).toContainEqual(choice?.setting);
  }
  const kernels = measured.map(({ candidates }) => candidates.map(({ setting }) => setting["kernel"]));
  expect(kernels[1]).toContain("split");
  expect(kernels[0]).not.toContain("split");

  const find = vi.spyOn(device.tunings, "find");
  for (const at of [0, 1, 3]) {
    const chosen = choicesOf(measured).map((choice, i) => {
      const { candidates } = measured[i] as (typeof measured)[0];
      return { ...choice, setting: (candidates[at % candidates.length] as (typeof candidates)[0]).setting };
    });
    device.tunings.add(chosen);
    find.mockClear();
    const tuned = await Promise.all(all.map((product) => product().read()));
    const found = find.mock.results.map(({ value: setting }) => setting as unknown);
    expect(found.length).toBeGreaterThanOrEqual(all.length);
    for (const setting of found) expect(chosen.map((choice) => choice.setting)).toContainEqual(setting);
    for (const [i, values] of tuned.entries()) {
      const want = untuned[i] as ArrayLike<number>;
      const scale = Math.max(...Array.from(want, Math.abs));
      const worst = Math.max(...Array.from(values, (v, j) => Math.abs(v - (want[j] as number))));
      expect(worst / scale).toBeLessThan(1e-5);
    }
  }
});

test("a way of matmul that cannot make a product of its class is passed over", async () => {
  const collector = collectCalls(device, (name) => name === "matmul");
  const random = new Random(device);
  const [a, b] = [random.normal([4096, 8]), random.normal([4096, 12])];
  await matmul(a, b, { transposeA: true }).read();
  const [call] = collector.take();
  collector.stop();
  if (!call) throw new Error("nothing was collected");
  freeCall(call);
  const { kernel: name, source, problem } = call;
  device.tunings.add([{ kernel: name, source, problem, setting: { kernel: "split" }, ratio: 0.5 }]);
  // Of the same class, and a sum of a prime number of products, which cannot be cut.
  const [c, d] = [random.normal([5003, 8]), random.normal([5003, 12])];
  const before = device.dispatchCount;
  const y = matmul(c, d, { transposeA: true });
  expect(device.dispatchCount - before).toBe(1);
  expect((await y.read()).length).toBe(96);
});

test("there is a problem for every kernel family that has settings to choose from", () => {
  const names = problems.map(({ name }) => name.split(" ")[0]);
  for (const op of [
    "rmsNorm",
    "addNorm",
    "layerNorm",
    "rotary",
    "swiglu",
    "attention",
    "sample",
    "embedding",
    "linear",
  ]) {
    expect(names).toContain(op);
  }
});
