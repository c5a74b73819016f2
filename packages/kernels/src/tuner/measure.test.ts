import { type DType, tensor, type Tensor } from "@rot/tensor";
import type { Device, KnobValues } from "@rot/tensor/kernel";
import { expect, test } from "@rot/tensor/testing";
import type { Call } from "./calls.ts";
import { difference, measureCall } from "./measure.ts";

/** A clock that moves only as calls say. */
class Clock {
  time = 0;
  readonly now = (): number => this.time;
}

interface Fake {
  readonly milliseconds?: number;
  readonly values?: readonly number[];
  readonly throws?: string;
}

/** A call whose settings take the time and give the values that they are told to. */
function fake(device: Device, clock: Clock, settings: Readonly<Record<string, Fake>>, more: Partial<Call> = {}): Call {
  return {
    kernel: "fake",
    source: "ab",
    problem: "f32 1 ",
    settings: Object.keys(settings).map((way) => ({ way })),
    tensors: {},
    updates: [],
    run(_tensors, { way }: KnobValues) {
      const { milliseconds = 1, values = [1, 2, 3], throws } = settings[way as string] as Fake;
      clock.time += milliseconds;
      if (throws !== undefined) throw new Error(throws);
      return [tensor(device, values as number[])];
    },
    ...more,
  };
}

const measure = async (device: Device, settings: Readonly<Record<string, Fake>>) => {
  const clock = new Clock();
  const measured = await measureCall(device, fake(device, clock, settings), { rounds: 2, now: clock.now });
  const verdicts = Object.fromEntries(measured.candidates.map(({ setting, verdict }) => [setting["way"], verdict]));
  return { measured, verdicts, way: measured.choice?.setting["way"], ratio: measured.choice?.ratio };
};

test("the fastest of those that agree is chosen, with its gain over the usual setting", async ({ device }) => {
  const found = await measure(device, {
    usual: { milliseconds: 8 },
    faster: { milliseconds: 2 },
    between: { milliseconds: 4 },
    hopeless: { milliseconds: 90 },
  });
  expect(found).toMatchObject({ way: "faster", ratio: 0.25 });
  expect(found.verdicts).toEqual({ usual: "timed", faster: "timed", between: "timed", hopeless: "slow" });
  expect(found.measured.candidates.map(({ milliseconds }) => milliseconds)).toEqual([8, 2, 4, 90]);
});

test("one that was lucky must win again, against the usual one alone", async ({ device }) => {
  const clock = new Clock();
  const call = fake(device, clock, { usual: { milliseconds: 8 }, lucky: { milliseconds: 2 } });
  let lucky = 0;
  const run: Call["run"] = (tensors, setting) => {
    // Its first run, three more, and two rounds of two.
    if (setting["way"] === "lucky" && ++lucky > 8) clock.time += 8;
    return call.run(tensors, setting);
  };
  const { candidates, choice } = await measureCall(device, { ...call, run }, { rounds: 2, now: clock.now });
  expect(candidates.map(({ milliseconds }) => milliseconds)).toEqual([8, 2]);
  expect(choice).toMatchObject({ setting: { way: "usual" }, ratio: 1 });
});

test("a long call is run a few times at each setting, and no more where that is hopeless", async ({ device }) => {
  const clock = new Clock();
  const milliseconds: Readonly<Record<string, number>> = { usual: 100, near: 90, far: 300, hopeless: 900 };
  const call = fake(
    device,
    clock,
    Object.fromEntries(Object.entries(milliseconds).map(([way, milliseconds]) => [way, { milliseconds }])),
  );
  const runs: string[] = [];
  const run: Call["run"] = (tensors, setting) => (runs.push(setting["way"] as string), call.run(tensors, setting));
  const { candidates } = await measureCall(device, { ...call, run }, { rounds: 7, now: clock.now });
  const count = (way: string): number => runs.filter((one) => one === way).length;
  // To compare results, in three turns, and in three more against the usual one alone.
  expect(Object.keys(milliseconds).map(count)).toEqual([7, 7, 4, 2]);
  expect(candidates.map(({ verdict }) => verdict)).toEqual(["timed", "timed", "slow", "slow"]);
  expect(candidates.map((one) => one.milliseconds)).toEqual([100, 90, 300, 900]);
});

test("a slower one is not chosen, nor one that gains next to nothing", async ({ device }) => {
  expect(await measure(device, { usual: {}, slower: { milliseconds: 2 } })).toMatchObject({ way: "usual", ratio: 1 });
  const near = { usual: { milliseconds: 100 }, faster: { milliseconds: 95 } };
  expect(await measure(device, near)).toMatchObject({ way: "usual", ratio: 1 });
});

test("one that gives another result is out, however fast, and it is said how", async ({ device }) => {
  const { measured, verdicts, way } = await measure(device, {
    usual: { milliseconds: 8 },
    wrong: { milliseconds: 1, values: [1, 2.1, 3] },
    right: { milliseconds: 4, values: [1, 2.00001, 3] },
    nan: { milliseconds: 1, values: [1, Number.NaN, 3] },
  });
  expect(way).toBe("right");
  expect(verdicts).toEqual({ usual: "timed", wrong: "differs", right: "timed", nan: "differs" });
  expect(measured.candidates[1]?.reason).toMatch(/^result 0 is 2\.0999\d+ instead of 2 at element 1$/);
  expect(measured.candidates[3]?.reason).toBe("result 0 is NaN instead of 2 at element 1");
});

test("most settings outvote the usual one, and of as many the usual one is right", async ({ device }) => {
  const odd = { values: [7, 7, 7] };
  const outvoted = await measure(device, { usual: odd, a: { milliseconds: 9 }, b: { milliseconds: 5 } });
  expect(outvoted).toMatchObject({ way: "b", verdicts: { usual: "differs", a: "timed", b: "timed" } });
  const even = await measure(device, { usual: { milliseconds: 5 }, other: { ...odd, milliseconds: 1 } });
  expect(even).toMatchObject({ way: "usual", verdicts: { usual: "timed", other: "differs" } });
});

test("one that fails is out with its reason; where all fail there is no choice", async ({ device }) => {
  const { measured, way } = await measure(device, { usual: {}, broken: { throws: "no such builtin" } });
  expect(way).toBe("usual");
  expect(measured.candidates[1]).toEqual({
    setting: { way: "broken" },
    verdict: "failed",
    reason: "no such builtin",
    milliseconds: null,
  });
  expect((await measure(device, { usual: { throws: "a" }, other: { throws: "b" } })).measured.choice).toBeNull();
});

test("what a call changes in place is compared too, each time from the same start, and nothing is left behind", async ({
  ownDevice: device,
}) => {
  const y = tensor(device, [1, 1]);
  const before = device.memory().live;
  const clock = new Clock();
  const call = fake(
    device,
    clock,
    { usual: {}, other: {}, wrong: {} },
    {
      tensors: { y },
      updates: ["y"],
      run({ y }, { way }) {
        const to = y as Tensor;
        to.assign(to.add(way === "wrong" ? 2 : 1));
        return [];
      },
    },
  );
  const { candidates } = await measureCall(device, call, { rounds: 1, now: clock.now });
  expect(candidates.map(({ verdict }) => verdict)).toEqual(["timed", "timed", "differs"]);
  await expect(y).toBeClose([1, 1]);
  expect(device.memory().live).toBe(before);
  y.dispose();
});

test("results may differ as their dtype rounds, and by nothing more", () => {
  const apart = (dtype: DType, a: number, b: number, precision?: DType) =>
    difference([{ dtype, values: [a, 100] }], [{ dtype, values: [b, 100] }], precision) !== null;
  expect([apart("f32", 1, 1.005), apart("f32", 1, 1.05)]).toEqual([false, true]);
  expect([apart("bf16", 1, 2), apart("bf16", 1, 4)]).toEqual([false, true]);
  expect([apart("f16", 1, 1.1), apart("f16", 1, 1.5)]).toEqual([false, true]);
  expect([apart("f32", 1, 1.1, "f16"), apart("f32", 1, 1.5, "f16"), apart("bf16", 1, 2, "f16")]).toEqual([
    false,
    true,
    false,
  ]);
  expect(apart("i32", 1, 2, "f16")).toBe(true);
  expect([apart("i32", 1, 1), apart("i32", 1, 2), apart("bool", 0, 1)]).toEqual([false, true, true]);
  expect([apart("f32", NaN, NaN), apart("f32", Infinity, Infinity), apart("f32", Infinity, 1)]).toEqual([
    false,
    false,
    true,
  ]);
});
