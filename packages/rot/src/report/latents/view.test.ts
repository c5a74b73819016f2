import { linear } from "@rot/kernels";
import { tensor } from "@rot/tensor";
import { expect, test } from "@rot/tensor/testing";
import { openShippedBase } from "../../tiny/node/shipped.ts";
import { viewLatents } from "./view.ts";

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, value, i) => sum + value * (b[i] as number), 0);

test("every number is what it says, computed again on the host", async ({ device, random }) => {
  const { model } = await openShippedBase(device);
  const [T, D, V] = [4, model.width, model.vocabulary];
  const draw = () => random.normals(T * D);
  const [latents, states] = [draw(), draw()];
  // The third latent points as the embedding of a token does, the last is the one before it again, longer.
  const table = (await model.embed(Int32Array.from({ length: V }, (_, id) => id)).read()) as Float32Array;
  const row = (id: number): Float32Array => table.subarray(id * D, (id + 1) * D);
  latents.set(row(17), 2 * D);
  latents.set(
    row(17).map((value) => 3 * value),
    3 * D,
  );
  const [given, from] = [latents, states].map((values) => tensor(device, values, { shape: [T, D] }));
  const views = await viewLatents(model, given!, from!, 7);
  const logits = await linear(from!, model.head).read();
  expect(views).toHaveLength(T);
  for (const [t, view] of views.entries()) {
    const own = latents.subarray(t * D, (t + 1) * D);
    const norm = Math.sqrt(dot(own, own));
    expect(view.values).toEqual(own);
    expect(view.norm).toBeCloseTo(norm, 4);
    const before = latents.subarray((t - 1) * D, t * D);
    if (t === 0) expect(view.likeLast).toBeNull();
    else expect(view.likeLast).toBeCloseTo(dot(own, before) / norm / Math.sqrt(dot(before, before)), 4);
    const cosines = Array.from({ length: V }, (_, id) => dot(own, row(id)) / norm / Math.sqrt(dot(row(id), row(id))));
    expect(view.nearest.token).toBe(cosines.indexOf(Math.max(...cosines)));
    expect(view.nearest.cosine).toBeCloseTo(Math.max(...cosines), 4);
    const scores = Array.from({ length: V }, (_, id) => Number(logits[t * V + id]));
    const most = Math.max(...scores);
    expect(view.instead.token).toBe(scores.indexOf(most));
    const all = scores.reduce((sum, score) => sum + Math.exp(score - most), 0);
    expect(view.instead.probability).toBeCloseTo(1 / all, 4);
  }
  expect(views[2]?.nearest.token).toBe(17);
  expect(views[3]?.likeLast).toBeCloseTo(1, 5);
  expect(await viewLatents(model, tensor(device, new Float32Array(), { shape: [0, D] }), from!)).toEqual([]);
});
