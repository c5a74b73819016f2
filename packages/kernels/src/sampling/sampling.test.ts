import { type Device, isTaping, key, philox, requireGrad, ShapeError, tensor, type Tensor, zeros } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { drawTokens } from "./draw.wgsl.ts";
import { logProbs, sample, type SampleOptions, topLogProbs } from "./sampling.ts";

/** What may be drawn, by the definitions, in double precision; tokens at the very edge of top-p are left to either side. */
function survivors(logits: readonly number[], { temperature = 1, topK = 0, topP = 1 }: Partial<SampleOptions>) {
  const largest = Math.max(...logits);
  const larger = (x: number): number => logits.filter((other) => other > x).length;
  const weights = logits.map((x) => (topK > 0 && larger(x) >= topK ? 0 : Math.exp((x - largest) / temperature)));
  const total = weights.reduce((a, b) => a + b);
  const share = (w: number): number => weights.reduce((sum, other) => sum + (other > w ? other : 0), 0) / total;
  const kept = weights.map((w) => (w > 0 && (topP === 1 || w === 1 || share(w) < topP) ? w : 0));
  const unsure = weights.some((w) => w > 0 && w < 1 && topP < 1 && Math.abs(share(w) - topP) < 1e-4);
  return { kept, unsure };
}

/** The unit number that a row's sample draws. */
const unitOf = (seed: SampleOptions["seed"], at: number): number => {
  const { key0, key1, step, sample: first } = key(seed).uniforms;
  return (philox([0, first + at, step, 0], [key0, key1])[0] >>> 8) / 2 ** 24;
};

/** The token that a unit number stands for, and whether rounding might choose its neighbour. */
function tokenAt(kept: readonly number[], unit: number): { token: number; unsure: boolean } {
  const total = kept.reduce((a, b) => a + b);
  let running = 0;
  let token = -1;
  let unsure = false;
  for (const [i, w] of kept.entries()) {
    if (w > 0 && running <= unit * total) token = i;
    running += w;
    if (w > 0 && Math.abs(running / total - unit) < 1e-5) unsure = true;
  }
  return { token, unsure };
}

async function ids(of: Tensor): Promise<number[]> {
  return Array.from(await of.read());
}

/** Many draws from one row. */
const drawMany = (device: Device, row: readonly number[], count: number, options: SampleOptions): Promise<number[]> =>
  ids(sample(tensor(device, row).expand(count, row.length), options));

test("at 200 random rows it draws the token that the definitions give in double precision, at every setting", async ({
  random,
}) => {
  let checked = 0;
  for (let i = 0; i < 60; i++) {
    const width = random.integer(1, i % 5 === 0 ? 3000 : 90);
    const rows = 4;
    const dtype = i % 7 === 3 ? "bf16" : "f32";
    const logits = random.normal([rows, width], random.integer(1, 5), dtype);
    const values = await logits.read();
    const options = {
      seed: key(random.integer(0, 1000)).for("draw", i),
      temperature: [1, 0.3, 0.7, 3][random.integer(0, 4)] as number,
      topK: [0, 1, 2, 20, 5000][random.integer(0, 5)] as number,
      topP: [1, 0.9, 0.5, 1e-6, 0][random.integer(0, 5)] as number,
    };
    const runs: number[][] = [];
    for (const setting of drawTokens.settings()) {
      runs.push(await ids(drawTokens.with(setting, () => sample(logits, options))));
    }
    for (let row = 0; row < rows; row++) {
      const list = Array.from(values.subarray(row * width, (row + 1) * width));
      const { kept, unsure } = survivors(list, options);
      const want = tokenAt(kept, unitOf(options.seed, row));
      if (unsure || want.unsure) continue;
      checked++;
      for (const got of runs) expect(got[row], `row ${row} of run ${i}: ${JSON.stringify(options)}`).toBe(want.token);
    }
  }
  expect(checked).toBeGreaterThan(200);
});

test("every token that the filters leave comes up, and no other", async ({ device, random }) => {
  const row = Array.from(random.normals(40, 2));
  for (const options of [{ topK: 7 }, { topP: 0.8 }, { topK: 9, topP: 0.7, temperature: 2 }, { topK: 1000, topP: 1 }]) {
    const { kept } = survivors(row, options);
    const seen = new Set(await drawMany(device, row, 3000, { seed: 3, ...options }));
    const total = kept.reduce((a, b) => a + b);
    const likely = kept.flatMap((w, i) => (w / total > 1e-2 ? [i] : []));
    for (const token of likely) expect(seen).toContain(token);
    for (const token of seen) expect(kept[token]).toBeGreaterThan(0);
  }
});

test("top-p takes its share of what top-k left, not of everything", async ({ device }) => {
  // 0.4, 0.3, 0.2, 0.1: of the first two, 0.4 is 0.57.
  const row = [0.1, 0.4, 0.2, 0.3].map(Math.log);
  expect(new Set(await drawMany(device, row, 500, { seed: 1, topK: 2, topP: 0.55 }))).toEqual(new Set([1]));
  expect(new Set(await drawMany(device, row, 500, { seed: 1, topK: 2, topP: 0.6 }))).toEqual(new Set([1, 3]));
  expect(new Set(await drawMany(device, row, 500, { seed: 1, topP: 0.55 }))).toEqual(new Set([1, 3]));
  // Temperature comes first: at 3 the shares are nearly even.
  expect(new Set(await drawMany(device, row, 500, { seed: 1, topP: 0.65, temperature: 3 }))).toEqual(
    new Set([1, 2, 3]),
  );
});

test("how often each token comes up follows the probabilities: chi-square of 15,000 draws", async ({
  device,
  random,
}) => {
  const row = Array.from(random.normals(30, 1.5));
  const options = { seed: key(11).for("chi"), temperature: 1.3, topK: 25, topP: 0.95 };
  const { kept } = survivors(row, options);
  const draws = 15_000;
  const counts = new Float64Array(row.length);
  for (const token of await drawMany(device, row, draws, options)) counts[token] = (counts[token] as number) + 1;
  const total = kept.reduce((a, b) => a + b);
  const tokens = kept.filter((w) => w > 0).length;
  const terms = kept.map((w, i) =>
    w > 0 ? ((counts[i] as number) - (w / total) * draws) ** 2 / ((w / total) * draws) : 0,
  );
  const chi = terms.reduce((a, b) => a + b);
  // The mean of chi-square is its degrees of freedom, its variance twice that: five deviations.
  expect(chi).toBeLessThan(tokens - 1 + 5 * Math.sqrt(2 * (tokens - 1)));
});

test("equal logits stay or go together", async ({ device }) => {
  const row = [1, 2, 2, 0, 2, -1];
  expect(new Set(await drawMany(device, row, 300, { seed: 5, topK: 1 }))).toEqual(new Set([1, 2, 4]));
  expect(new Set(await drawMany(device, row, 300, { seed: 5, topP: 1e-9 }))).toEqual(new Set([1, 2, 4]));
  // A neighbour of one bit less is no equal.
  expect(new Set(await drawMany(device, [1 - 2 ** -24, 1, 1 - 2 ** -24], 300, { seed: 5, topK: 1 }))).toEqual(
    new Set([1]),
  );
  expect(new Set(await drawMany(device, [0, -0, -1], 300, { seed: 5, topK: 1 }))).toEqual(new Set([0, 1]));
});

test("a row's token depends on its sample and step, not on its place or its company", async ({ device, random }) => {
  const logits = random.normal([6, 500]);
  const seed = key(9).for("generate", 4);
  const all = await ids(sample(logits, { seed }));
  for (let row = 0; row < 6; row++) {
    const alone = logits.slice([row, row + 1]);
    expect(await ids(sample(alone, { seed: seed.at(row) }))).toEqual([all[row]]);
  }
  const turned = sample(logits.flip(0), { seed, samples: tensor(device, [5, 4, 3, 2, 1, 0], { dtype: "i32" }) });
  expect(await ids(turned)).toEqual(all.toReversed());
  expect(await ids(sample(logits, { seed: key(9).for("generate", 5) }))).not.toEqual(all);
  expect(await ids(sample(logits.reshape(2, 3, 500), { seed }))).toEqual(all);
});

test("temperature 0 takes the largest, the first of equals", async ({ device }) => {
  const logits = tensor(device, [
    [1, 3, 3, 2],
    [-1, -2, -1, -5],
  ]);
  expect(await ids(sample(logits, { seed: 1, temperature: 0, topK: 3, topP: 0.1 }))).toEqual([1, 0]);
});

test("a row that is no distribution gives -1, and spoils no other", async ({ device }) => {
  const [no, nan, all] = [-Infinity, NaN, Infinity];
  const rows = [
    [no, no, 2, no],
    [1, nan, 1, 1],
    [no, no, no, no],
    [0, all, 0, 0],
    [no, 5, no, -1e30],
    [-3e38, no, no, no],
  ];
  for (const options of [{}, { topK: 2 }, { topP: 0.5 }, { topK: 3, topP: 0.9, temperature: 1e-6 }]) {
    expect(await ids(sample(tensor(device, rows), { seed: 2, ...options }))).toEqual([2, -1, -1, -1, 1, 0]);
  }
});

test("a whole vocabulary in a batch: the same survivors as the definitions", async ({ random }) => {
  const width = 151_936;
  const logits = random.normal([2, width], 2);
  const values = await logits.read();
  const options = { seed: 21, temperature: 0.7, topK: 50, topP: 0.8 };
  const got = await ids(sample(logits, options));
  for (const row of [0, 1]) {
    const list = Array.from(values.subarray(row * width, (row + 1) * width));
    const floor = list.toSorted((a, b) => b - a)[options.topK - 1] as number;
    const best = list.flatMap((x, i) => (x >= floor ? [i] : []));
    const { kept } = survivors(
      best.map((i) => list[i] as number),
      options,
    );
    expect(got[row]).toBe(best[tokenAt(kept, unitOf(21, row)).token]);
  }
  const everything = await ids(sample(logits, { seed: 22 }));
  expect(everything.every((token) => token >= 0 && token < width)).toBe(true);
});

test("log-probabilities of the chosen and of the likeliest", async ({ device }) => {
  const p = [0.1, 0.4, 0.2, 0.3];
  const logits = tensor(device, [p.map((x) => Math.log(x) + 5), p.map((x) => Math.log(x) - 5).toReversed()]);
  await expect(logProbs(logits, tensor(device, [2, -1], { dtype: "i32" }))).toBeClose([Math.log(0.2), NaN], {
    absolute: 1e-5,
  });
  const { values, indices } = topLogProbs(logits, 2);
  expect(await ids(indices)).toEqual([1, 3, 2, 0]);
  await expect(values).toBeClose([0.4, 0.3, 0.4, 0.3].map(Math.log), { absolute: 1e-5 });
});

test("nothing is taped, no rows give no tokens, and what makes no sense is refused", async ({ device, random }) => {
  const logits = requireGrad(random.normal([2, 8]));
  expect(sample(logits, { seed: 1 }).requiresGrad).toBe(false);
  expect(isTaping()).toBe(true);
  expect((await sample(zeros(device, [0, 8]), { seed: 1 }).read()).length).toBe(0);
  expect(() => sample(logits, { seed: 1, temperature: -1 })).toThrow("temperature is -1");
  expect(() => sample(logits, { seed: 1, temperature: NaN })).toThrow("temperature is NaN");
  expect(() => sample(logits, { seed: 1, topK: 1.5 })).toThrow("topK is 1.5");
  expect(() => sample(logits, { seed: 1, topP: 1.1 })).toThrow("topP is 1.1");
  expect(() => sample(zeros(device, [2, 0]), { seed: 1 })).toThrow(ShapeError);
  expect(() => sample(zeros(device, [2, 3], "i32"), { seed: 1 })).toThrow("logits is [2, 3] i32");
  expect(() => sample(logits, { seed: 1, samples: zeros(device, [2]) })).toThrow("samples is [2] f32");
});
