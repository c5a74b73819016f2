/** Real adapters, each in a process of its own: what is loaded into a process stays there. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const script = `
const { platform } = await import(${JSON.stringify(new URL("./platform.ts", import.meta.url).href)});
const before = JSON.stringify(process.env);
for (const wish of JSON.parse(process.env.WISHES)) {
  try {
    const { gpu, adapter, kind } = await platform.requestAdapter({ adapter: wish ?? undefined, notice: platform.notice });
    const device = await adapter.requestDevice();
    const code = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;" +
      "@compute @workgroup_size(1) fn main() { x[0] = x[0] * 2.0 + 1.0; }";
    const module = device.createShaderModule({ code });
    const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
    const buffer = device.createBuffer({ size: 4, usage: 0x8c });
    const copy = device.createBuffer({ size: 4, usage: 0x9 });
    device.queue.writeBuffer(buffer, 0, new Float32Array([20.5]));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    const entries = [{ binding: 0, resource: { buffer } }];
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(buffer, 0, copy, 0, 4);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(1);
    console.log(kind, new Float32Array(copy.getMappedRange())[0]);
    device.destroy();
  } catch (error) {
    console.log(error.name, error.message);
  }
}
if (JSON.stringify(process.env) !== before) console.log("the environment was changed");
`;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-platform-test-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function open(wishes: (string | null)[], variables: Record<string, string> = {}) {
  const parameters = ["--conditions=@rot/source", "--import", "tsx", "--input-type=module", "--eval", script];
  // No driver of the system's, so that every machine gives the same answer.
  const hidden = { VK_DRIVER_FILES: "/nonexistent.json", ROT_NO_DOWNLOAD: "1", ROT_CACHE: folder };
  const env = { ...process.env, ...hidden, ...variables, WISHES: JSON.stringify(wishes) };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, parameters, { env });
  return { answers: stdout.trim().split("\n"), notices: stderr.trim().split("\n") };
}

const packages = createRequire(import.meta.url).resolve.paths("koffi") ?? [];
const installed = ["koffi", "@sparticuz/chromium"].every((name) =>
  packages.some((each) => existsSync(join(each, name))),
);
const here = process.platform === "linux" && process.arch === "x64" && (installed || process.env["CI"] !== undefined);

describe.skipIf(!here)("with the system's Vulkan hidden and no download", () => {
  it("the embedded adapter serves, in one line", async () => {
    const { answers, notices } = await open([null]);
    expect(answers).toEqual(["embedded 42"]);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(
      /^adapter: SwiftShader Device \(Subzero\), embedded, .*; no GPU was found; fetching lavapipe: /,
    );
  });

  it("it is found by any part of its name, again and again in one process", async () => {
    const { answers, notices } = await open(["embedded", "SUBZERO", "hardware", "radeon", "swiftshader"]);
    expect(answers.filter((each) => each === "embedded 42")).toHaveLength(3);
    expect(answers[2]).toMatch(/^DeviceError no GPU was found/);
    expect(answers[3]).toMatch(/^DeviceError no adapter has "radeon" in its name/);
    expect(notices).toEqual(
      Array(3).fill("adapter: SwiftShader Device (Subzero), embedded, out of @sparticuz/chromium"),
    );
  });

  it("processes that unpack at once all succeed", async () => {
    const results = await Promise.all(Array.from({ length: 3 }, () => open(["embedded"])));
    expect(results.flatMap(({ answers }) => answers)).toEqual(Array(3).fill("embedded 42"));
    const names = await readdir(join(folder, "render-of-thought"));
    expect(names.filter((name) => name.startsWith("swiftshader-"))).toHaveLength(1);
    expect(names.filter((name) => name.includes(".partial-"))).toEqual([]);
  });

  it("software is an error that says what would mend it", async () => {
    const { answers } = await open(["software"]);
    expect(answers[0]).toMatch(/^DeviceError no software Vulkan was found\. Install mesa-vulkan-drivers/);
  });

  it("nonsense in the environment is an error before anything is done", async () => {
    const { answers } = await open([null], { ROT_DEBUG: "loud" });
    expect(answers[0]).toBe('UsageError ROT_DEBUG is "loud"; it must be 0, 1, 2, 3 or 4');
  });
});

const mayFetch = here && existsSync("/usr/bin/apt-get") && process.env["ROT_NO_DOWNLOAD"] !== "1";

describe.skipIf(!mayFetch)("with a download", () => {
  it(
    "lavapipe is fetched, and stands beside the embedded adapter in one process",
    { timeout: 120_000 },
    async ({ skip }) => {
      const { answers, notices } = await open(["embedded", null, "embedded"], { ROT_NO_DOWNLOAD: "0" });
      const failure = notices.find((line) => line.includes("fetching lavapipe: "));
      if (failure) skip(`no download here: ${failure}`);
      expect(answers).toEqual(["embedded 42", "software 42", "embedded 42"]);
      expect(notices).toHaveLength(4);
      expect(notices[2]).toMatch(/^adapter: llvmpipe .*, software, fetched into .*; no GPU was found$/);
      // It is kept: the next process needs no download.
      const again = await open([null, "embedded", "llvmpipe"]);
      expect(again.answers).toEqual(["software 42", "embedded 42", "software 42"]);
    },
  );
});
