import { DeviceLostError, openDevice, OutOfMemoryError } from "@rot/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fingerprint, temporary, tinyRun } from "../../../test/tools/tiny-run.ts";
import { listCheckpoints } from "../checkpoint-folder.ts";

const settings = { stage: "1", "checkpoint.every": "1", "data.validation_share": "0" };
let folder: Awaited<ReturnType<typeof temporary>>;
beforeAll(async () => {
  folder = await temporary();
});
afterAll(() => folder[Symbol.asyncDispose]());

test("whichever buffer of a run cannot be made, the error says so, nothing stays on the device, and the checkpoint before is whole", async () => {
  using device = await openDevice({ notice: () => {} });
  const gpu = device.gpu as { createBuffer: GPUDevice["createBuffer"] };
  const { createBuffer } = gpu;
  let created = 0;
  let failing = Infinity;
  gpu.createBuffer = (descriptor) => {
    if (++created >= failing) throw new Error("injected: no room");
    return createBuffer.call(gpu, descriptor);
  };
  const run = `${folder.path}/run`;
  await tinyRun(device, run, { ...settings, "training.max_steps": "1" });
  const before = await fingerprint(run, 1);
  const more = { ...settings, "training.max_steps": "2" };

  device.trim();
  created = 0;
  const reference = `${folder.path}/reference`;
  await tinyRun(device, reference, more);
  const needed = created;
  expect(needed).toBeGreaterThan(50);
  // Every n-th from the first to the last: opening the model, restoring, the step, its checkpoint.
  for (let n = 1; n < needed; n = Math.ceil(n * 1.6)) {
    device.trim();
    created = 0;
    failing = n;
    const error = await tinyRun(device, run, more, { resume: true }).catch((thrown: unknown) => thrown);
    failing = Infinity;
    if (!(error instanceof Error)) break; // a resumed run needs fewer buffers
    expect(error, `buffer ${n}`).toBeInstanceOf(OutOfMemoryError);
    expect(device.memory().live, `buffer ${n}: ${JSON.stringify(device.memory().labels)}`).toBe(0);
    expect(await listCheckpoints(`${run}/checkpoints`)).toEqual([1]);
    expect(await fingerprint(run, 1)).toEqual(before);
  }
});

test("a device that is lost in the middle ends the run with a retryable error, and the run goes on with the same bits", async () => {
  const more = { ...settings, "training.max_steps": "3" };
  using whole = await openDevice({ notice: () => {} });
  await tinyRun(whole, `${folder.path}/whole`, more);
  const run = `${folder.path}/lost`;
  const lost = await openDevice({ notice: () => {} });
  const openLost = () => {
    setTimeout(() => lost.gpu.destroy(), 600);
    return Promise.resolve(lost);
  };
  const error = await tinyRun(lost, run, { ...more, "training.max_steps": "1000" }, { openDevice: openLost }).catch(
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(DeviceLostError);
  expect(error).toMatchObject({ retryable: true });
  const begun = await listCheckpoints(`${run}/checkpoints`);
  if ((begun.at(-1) ?? 0) > 3) return;
  await tinyRun(whole, run, { ...more, "optimizer.schedule": "constant" }, begun.length > 0 ? { resume: true } : {});
  expect(await listCheckpoints(`${run}/checkpoints`)).toContain(3);
});
