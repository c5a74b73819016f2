import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice, randn, scope } from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";
import { expect, test, vi } from "vitest";
import { tuneFirst } from "./tuning.ts";

const kernel = defineKernel({
  name: "test.first",
  inputs: ["x"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: { lanes: [64, 32] },
  source: (bindings, { lanes }) => wgsl`
    ${bindings}
    ${main(lanes)}
      let i = group * ${lanes}u + lane;
      if (i < u.n) { store_y(i, 2.0 * load_x(i)); }
    }`,
  grid: ({ n }, { lanes }) => Math.ceil(n / lanes),
});

test("with ROT_TUNE=full the kernels of the first piece of work are tuned once, and both ends are said on stderr", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rot-tuning-"));
  let stderr = "";
  const output = { out: () => {}, err: (text: string) => void (stderr += text), terminal: false };
  const device = await openDevice({ tune: "full", notice: () => {} });
  const idle = await openDevice({ tune: "cached", notice: () => {} });
  vi.stubEnv("ROT_CACHE", folder);
  try {
    const run = (n: number): void =>
      scope(() => void kernel({ x: randn(device, [n], { seed: 1 }) }, { y: { shape: [n], dtype: "f32" } }, { n }));
    const finish = tuneFirst(device, "the first step", output);
    run(100);
    await finish();
    const [file] = readdirSync(join(folder, "render-of-thought"));
    expect(stderr).toMatch(
      /^tuner: ROT_TUNE is full: after the first step its kernels [^\n]+\ntuner: 1 call of 1 call · 100 % [^\n]+\ntuner: of \d+ kinds of calls \d+ are faster at another setting; stored in .+\n$/,
    );
    expect(stderr.trimEnd().endsWith(file as string)).toBe(true);
    const said = stderr;
    rmSync(folder, { recursive: true });
    run(10_000);
    await finish();
    expect(device.tunings.collect).toBeUndefined();

    await tuneFirst(idle, "the first step", output)();
    expect(idle.tunings.collect).toBeUndefined();
    expect(stderr).toBe(said);
    expect(existsSync(folder)).toBe(false);
  } finally {
    device.destroy();
    idle.destroy();
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true, force: true });
  }
});
