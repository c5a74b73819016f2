import { expect, test } from "@rot/tensor/testing";
import { textRotation } from "./rotation.ts";

test("height and width take every third frequency as far as their section goes, and time the others", async ({
  device,
}) => {
  const K = 128;
  const config = { K, ropeTheta: 2, mropeSection: [24, 20, 20] } as const;
  // With so small a base every frequency tells time 1, height 2 and width 3 apart.
  const { cos, sin } = textRotation(device, Int32Array.of(1, 2, 3), [1, 1], config);
  expect(cos.shape).toEqual([1, 1, K]);
  const [c, s] = [await cos.read(), await sin.read()];
  for (let lane = 0; lane < K; lane++) {
    const j = lane % (K / 2);
    const place = j % 3 === 1 && j < 60 ? 2 : j % 3 === 2 && j < 60 ? 3 : 1;
    const angle = place * 2 ** ((-2 * j) / K);
    expect(c[lane], `cosine of lane ${lane}`).toBeCloseTo(Math.cos(angle), 5);
    expect(s[lane], `sine of lane ${lane}`).toBeCloseTo(Math.sin(angle), 5);
  }
});

test("every token of every sequence has its own row", async ({ device }) => {
  const config = { K: 4, ropeTheta: 100, mropeSection: [2, 0, 0] } as const;
  const times = [0, 1, 2, 5, 6, 7];
  const { sin } = textRotation(device, Int32Array.from([...times, ...times, ...times]), [2, 3], config);
  const want = times.flatMap((t) => [Math.sin(t), Math.sin(t / 10), Math.sin(t), Math.sin(t / 10)]);
  await expect(sin).toBeClose({ shape: [2, 3, 4], values: want }, { absolute: 1e-6 });
});
