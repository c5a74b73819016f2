/** ARCHITECTURE.md's arrows, made to run: every import points to an earlier line of this list, or stays on its own. */
import { readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { globSync } from "tinyglobby";
import { expect, test } from "vitest";

/** From the ground up. A line ending in a slash is a folder. */
const layers = [
  "tensor/src/errors.ts",
  "tensor/src/shape.ts",
  "tensor/src/dtype.ts",
  "tensor/src/safetensors/",
  "tensor/src/gpu/",
  "tensor/src/wgsl.ts",
  "tensor/src/half.wgsl.ts",
  "tensor/src/format.ts",
  "tensor/src/storage.ts",
  "tensor/src/scope.ts",
  "tensor/src/tensor.ts",
  "tensor/src/knobs.ts",
  "tensor/src/bindings.ts",
  "tensor/src/kernel.ts",
  "tensor/src/tape.ts",
  "tensor/src/op.ts",
  "tensor/src/ops/",
  "tensor/src/grad.ts",
  "tensor/src/compositions.ts",
  "tensor/src/losses.ts",
  "tensor/src/random/",
  "tensor/src/optim/",
  "tensor/src/kernel-entry.ts",
  "tensor/src/methods.ts",
  "tensor/src/index.ts",
  "tensor/src/cases.ts",
  "tensor/src/testing.ts",
  "kernels/src/",
  "models/src/",
  "rot/src/",
  "cli/src/",
];
const packages = resolve(import.meta.dirname, "../packages");
const rank = (file: string): number =>
  layers.findIndex((layer) => (layer.endsWith("/") ? file.startsWith(layer) : file === layer));

/** The files that `file` imports for their values; types may point either way. */
function imports(file: string): string[] {
  const source = readFileSync(join(packages, file), "utf8");
  const statements = source.matchAll(/^(?:import|export) (?!type )[^;]*?from "([^"]+)"|\bimport\("([^"]+)"\)/gms);
  return [...statements].flatMap(([, first, second]) => {
    const to = (first ?? second) as string;
    if (to.startsWith(".")) return [relative(packages, resolve(packages, file, "..", to))];
    const workspace = /^@rot\/(\w+)/.exec(to);
    return workspace ? [`${workspace[1]}/src/index.ts`] : [];
  });
}

const files = globSync("*/src/**/*.ts", { cwd: packages, ignore: ["**/*.test.ts"] }).toSorted();

test.for(files)("%s imports only what lies below it", (file) => {
  expect(rank(file), "stands in a layer").not.toBe(-1);
  for (const to of imports(file)) expect(rank(to), `imports ${to}`).toBeLessThanOrEqual(rank(file));
});

test("only tensor/src/gpu talks to WebGPU, and nothing above the platform reads the environment but the CLI", () => {
  for (const file of files) {
    const source = readFileSync(join(packages, file), "utf8");
    if (!file.startsWith("tensor/src/gpu/"))
      expect(source, file).not.toMatch(/\bnavigator\.gpu\b|from "webgpu"|\.createBuffer\(|\.createComputePipeline\(/);
    if (!/^(cli|tensor\/src\/gpu\/node)\//.test(file) && file !== "tensor/src/testing.ts") {
      expect(source, file).not.toMatch(/\bprocess\.(env|exit|argv|std)/);
    }
  }
});

test("what a browser loads of tensor imports nothing of Node", () => {
  const open = [
    "tensor/src/index.ts",
    "tensor/src/gpu/browser/platform.ts",
    "tensor/src/safetensors/index.ts",
    "tensor/src/kernel-entry.ts",
  ];
  const seen = new Set(open);
  for (const file of seen) {
    const source = readFileSync(join(packages, file), "utf8");
    expect(source, file).not.toMatch(/from "node:|import\("node:/);
    for (const to of imports(file)) seen.add(to);
  }
  expect(seen.size).toBeGreaterThan(20);
});
