import { type Mlp, mlp, toyPoints } from "../test/tools/mlp.ts";
import { DeviceLostError, KernelError, OutOfMemoryError, UsageError } from "./errors.ts";
import type { Device } from "./gpu/device.ts";
import { openDevice } from "./gpu/open-device.ts";
import { backward, grad } from "./grad.ts";
import { defineKernel } from "./kernel.ts";
import { assign } from "./ops/assign.ts";
import { add, binary } from "./ops/binary.ts";
import { full, tensor, zeros } from "./ops/create.ts";
import { matmul } from "./ops/matmul.ts";
import { sum } from "./ops/reduce.ts";
import { unary } from "./ops/unary.ts";
import { AdamW } from "./optim/adamw.ts";
import { scope } from "./scope.ts";
import { requireGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import { expect, test } from "./testing.ts";
import { main, wgsl } from "./wgsl.ts";

const quiet = { notice: (): void => {} };

/** What an awaited promise was rejected with. */
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

/**
 * Makes the nth buffer creation from now fail: at once, or as WebGPU does it, by a report that comes later.
 *
 * @returns  the buffer, if one was made, and an end to it
 */
function failCreation(device: Device, nth: number, way: "thrown" | "reported") {
  const gpu = device.gpu as { createBuffer: GPUDevice["createBuffer"]; popErrorScope: GPUDevice["popErrorScope"] };
  const { createBuffer, popErrorScope } = gpu;
  const injected: { buffer?: GPUBuffer; restore(): void } = {
    restore: () => Object.assign(gpu, { createBuffer, popErrorScope }),
  };
  let created = 0;
  let report = false;
  gpu.createBuffer = (descriptor) => {
    if (++created !== nth) return createBuffer.call(gpu, descriptor);
    if (way === "thrown") throw new Error("injected: no room");
    report = true;
    return (injected.buffer = createBuffer.call(gpu, descriptor));
  };
  gpu.popErrorScope = async () => {
    const mine = report;
    report = false;
    const error = await popErrorScope.call(gpu);
    return mine ? ({ message: "injected: no room" } as GPUError) : error;
  };
  return injected;
}

/** The buffers that work binds for the first time. */
async function boundBy(device: Device, work: () => Promise<unknown>): Promise<Set<GPUBuffer>> {
  const gpu = device.gpu as { createBindGroup: GPUDevice["createBindGroup"] };
  const { createBindGroup } = gpu;
  const bound = new Set<GPUBuffer>();
  gpu.createBindGroup = (descriptor) => {
    for (const { resource } of descriptor.entries) bound.add((resource as GPUBufferBinding).buffer);
    return createBindGroup.call(gpu, descriptor);
  };
  try {
    await work();
  } finally {
    gpu.createBindGroup = createBindGroup;
  }
  return bound;
}

test.for(["thrown", "reported"] as const)(
  "whichever buffer of a training step cannot be made, %s, the error says so and nothing is leaked",
  async (way) => {
    using device = await openDevice(quiet);
    const { x, y } = toyPoints(device);
    const networks: Mlp[] = []; // held, so that the garbage collector does not free them in between
    const attempt = (): { step: () => Promise<number>; optimizer: AdamW; stepped: () => boolean } => {
      const network = mlp(device, 3);
      networks.push(network);
      const optimizer = new AdamW(network.parameters);
      let stepped = false;
      const step = async (): Promise<number> => {
        const loss = scope(() => {
          const loss = network.loss(x, y);
          backward(loss);
          optimizer.step();
          optimizer.zeroGrad();
          return loss;
        });
        stepped = true;
        try {
          return await loss.item();
        } finally {
          loss.dispose();
        }
      };
      return { step, optimizer, stepped: () => stepped };
    };
    const { step } = attempt();
    const [first, second] = [await step(), await step()];

    let nth = 1;
    for (; ; nth++) {
      const { step, optimizer, stepped } = attempt();
      device.trim(); // so that the step has to make its buffers
      const before = device.memory().live;
      const injected = failCreation(device, nth, way);
      const failure = await failureOf(step());
      const hadStepped = stepped();
      injected.restore();
      if (!failure) break;
      expect(failure, `buffer ${nth}`).toBeInstanceOf(OutOfMemoryError);
      const { asked, live, message } = failure as OutOfMemoryError;
      expect(message).toMatch(/asks for \d+ bytes, \d+ are live.*injected: no room/s);
      expect(asked).toBeGreaterThan(0);
      expect(live).toBeGreaterThanOrEqual(before);

      optimizer.zeroGrad();
      if (way === "thrown" && !hadStepped) expect(device.memory().live, `buffer ${nth}`).toBe(before);
      if (way === "reported") {
        // Nothing may be bound to the buffer that has no memory, nor may the optimizer keep it for its state.
        device.trim();
        const bound = await boundBy(device, step);
        expect(bound.size).toBeGreaterThan(15);
        expect(bound.has(injected.buffer as GPUBuffer), `buffer ${nth}`).toBe(false);
      } else {
        expect(await step()).toBe(hadStepped ? second : first);
      }
      optimizer.dispose();
      expect(device.memory().live, `buffer ${nth}`).toBe(before);
    }
    expect(nth).toBeGreaterThan(15);
  },
);

test("a tensor that turns out to have no memory says so when it is used, and can be disposed", async () => {
  using device = await openDevice(quiet);
  const { live } = device.memory();
  const injected = failCreation(device, 1, "reported");
  const x = zeros(device, [100]);
  injected.restore();
  expect(await failureOf(device.sync())).toBeInstanceOf(OutOfMemoryError);
  await device.sync();
  expect(x.isDead).toBe(true);
  expect(() => add(x, 1)).toThrow(/made by fill cannot be used: the device had no room for its 400 bytes/);
  expect(await failureOf(x.read())).toBeInstanceOf(OutOfMemoryError);
  x.dispose();
  expect(device.memory()).toMatchObject({ live, pooled: 0 });

  // Nor is its buffer handed out again if it was given back before the report came.
  const again = failCreation(device, 1, "reported");
  zeros(device, [100]).dispose();
  again.restore();
  expect(device.memory().pooled).toBeGreaterThan(0);
  expect(await failureOf(device.sync())).toBeInstanceOf(OutOfMemoryError);
  expect(device.memory()).toMatchObject({ live, pooled: 0 });
  await expect(zeros(device, [100])).toBeClose(new Float32Array(100));
});

test("a tensor larger than any buffer is refused with the bytes asked for", async () => {
  using device = await openDevice(quiet);
  const { live } = device.memory();
  const count = device.limits.maxBufferSize;
  expect(() => zeros(device, [count])).toThrow(OutOfMemoryError);
  expect(() => zeros(device, [count])).toThrow(`fill asks for ${4 * count} bytes`);
  expect(device.memory().live).toBe(live);
});

test("a readback without room for its copy is out of memory too", async () => {
  using device = await openDevice(quiet);
  for (const [way, n] of [
    ["thrown", 3],
    ["reported", 1000],
  ] as const) {
    using x = full(device, [n], 7);
    const injected = failCreation(device, 1, way);
    const failure = await failureOf(x.read());
    injected.restore();
    expect(failure).toBeInstanceOf(OutOfMemoryError);
    expect(failure).toMatchObject({ asked: 4 * n, live: 4 * n });
    await expect(x).toBeClose(Array<number>(n).fill(7));
  }
});

test("a device destroyed in mid-step rejects whoever waits, 20 of 20, and refuses what follows", async () => {
  for (let round = 0; round < 20; round++) {
    const device = await openDevice(quiet);
    const { x, y } = toyPoints(device);
    const network = mlp(device, round);
    const optimizer = new AdamW(network.parameters);
    const step = (): Tensor =>
      scope(() => {
        const loss = network.loss(x, y);
        optimizer.step(grad(loss, network.parameters));
        return loss;
      });
    const settled: Promise<unknown>[] = [];
    for (let i = 0; i < 2 * round; i++) settled.push(failureOf(step().read()));
    // In the same tick as the last of the work, or while the device is busy with it.
    if (round % 2 === 1) await new Promise((done) => setTimeout(done, round));
    const loss = step();
    const pending = [loss.read(), device.sync(), x.read(), device.sync()].map(failureOf);
    const half = network.loss(x, y);
    const started = performance.now();
    // By our own hand, or behind the library's back, as a driver would.
    if (round % 4 < 2) device.destroy();
    else device.gpu.destroy();
    for (const failure of await Promise.all(pending)) {
      expect(failure).toBeInstanceOf(DeviceLostError);
      expect(failure).toMatchObject({ retryable: true });
    }
    for (const failure of await Promise.all(settled)) {
      if (failure) expect(failure).toBeInstanceOf(DeviceLostError);
    }
    expect(performance.now() - started).toBeLessThan(5000);
    expect(device.isLost).toBe(true);
    expect(() => step()).toThrow(DeviceLostError);
    expect(() => backward(half)).toThrow(DeviceLostError);
    expect(() => zeros(device, [1])).toThrow(/the device \(.*\) is lost: .*destroyed.* go on from a checkpoint/i);
    for (const wait of [x.read(), device.sync(), loss.item()]) {
      expect(await failureOf(wait)).toBeInstanceOf(DeviceLostError);
    }
    device.destroy(); // twice is once
    for (const one of [x, y, loss, half, ...network.parameters]) one.dispose();
  }
});

/** A kernel whose WGSL names what is not there. */
const broken = defineKernel({
  name: "test.broken",
  inputs: ["x", "weight"],
  outputs: ["y"],
  uniforms: { n: "u32" },
  knobs: {},
  source: (bindings) => wgsl`
    ${bindings}
    ${main(64)}
      let i = group * 64u + lane;
      store_y(i, load_x(i) * nothing);
    }`,
  grid: ({ n }) => Math.ceil(n / 64),
});

test("WGSL that does not compile is an error with the kernel, the line, and the shapes and dtypes of the call", async () => {
  using device = await openDevice(quiet);
  const [x, weight] = [tensor(device, [[1, 2, 3]]), tensor(device, [1, 2, 3], { dtype: "bf16" })];
  const call = (): Tensor => broken({ x, weight }, { y: x }, { n: 3 }).y;
  const y = call();
  const failure = await failureOf(y.read());
  expect(failure).toBeInstanceOf(KernelError);
  const { message } = failure as KernelError;
  expect(message).toContain("test.broken");
  expect(message).toContain("x [1, 3] f32");
  expect(message).toContain("weight [3] bf16");
  expect(message).toMatch(/WGSL line \d+:\d+: .*nothing/);
  expect(message).toMatch(/> +\d+ \| +store_y\(i, load_x\(i\) \* nothing\);/);
  // From now on it is known and thrown at the call, and nothing else is disturbed.
  expect(call).toThrow(message);
  await expect(add(x, 1)).toBeClose({ shape: [1, 3], values: [2, 3, 4] });
});

test("everybody who was waiting hears of an error, and nobody who comes later", async () => {
  using device = await openDevice(quiet);
  const x = tensor(device, [[1, 2, 3]]);
  const y = broken({ x, weight: x }, { y: x }, { n: 3 }).y;
  const waits = [y.read(), x.read(), device.sync()].map(failureOf);
  for (const failure of await Promise.all(waits)) expect(failure).toBeInstanceOf(KernelError);
  await device.sync();
  await expect(x).toBeClose({ shape: [1, 3], values: [1, 2, 3] });
});

test("a disposed tensor is refused wherever it is used", async ({ device }) => {
  const x = tensor(device, [[1, 2]]);
  x.dispose();
  x.dispose();
  expect(x.isDisposed).toBe(true);
  const message = /tensor \[1, 2\] f32 cannot be used: it was disposed/;
  expect(() => add(x, 1)).toThrow(message);
  expect(() => add(zeros(device, [2]), x)).toThrow(UsageError);
  expect(() => matmul(x, x, { transposeB: true })).toThrow(UsageError);
  expect(() => assign(x, zeros(device, [1, 2]))).toThrow(message);
  expect(await failureOf(x.read())).toBeInstanceOf(UsageError);
  expect(String(x)).toContain("it was disposed");
  const inside = scope(() => {
    const lost = zeros(device, [3]);
    return () => unary.exp(lost);
  });
  expect(inside).toThrow(/tensor \[3\] f32 cannot be used/);
});

test("a second backward over a freed tape is refused, and says what would allow it", ({ device }) => {
  const x = requireGrad(tensor(device, [1, 2]));
  const y = sum(unary.exp(unary.square(x)));
  backward(y);
  expect(() => backward(y)).toThrow(UsageError);
  expect(() => backward(y)).toThrow(/freed by an earlier backward.*\{ retain: true \}/);
  expect(() => grad(y, [x])).toThrow(/freed by an earlier backward/);
});

test("a tensor changed in place after an op saved it is noticed at backward", async ({ device }) => {
  const x = requireGrad(tensor(device, [1, 2]));
  const w = tensor(device, [3, 4]);
  const y = sum(binary.mul(x, w));
  assign(w, tensor(device, [5, 6]));
  const failure = (): unknown => {
    try {
      return backward(y);
    } catch (error) {
      return error;
    }
  };
  expect(failure()).toMatchObject({
    name: "UsageError",
    message: expect.stringMatching(/mul saved was changed in place/),
  });
  // What no gradient reads may be changed.
  const z = sum(add(x, w));
  assign(w, tensor(device, [7, 8]));
  backward(z);
  await expect(x.grad as Tensor).toBeClose([1, 1]);
});

test("assign copies values and refuses what the tape could not follow", async ({ device, random }) => {
  for (const [n, dtype] of [
    [0, "f32"],
    [1, "f32"],
    [4, "i32"],
    [7, "bf16"],
    [8, "f16"],
    [1021, "f32"],
  ] as const) {
    const x = zeros(device, [n], dtype);
    const alias = x.alias();
    const y = random.normal([n], 10);
    expect(assign(x, y)).toBe(x);
    const want = dtype === "i32" ? (await y.read()).map(Math.trunc) : await y.read();
    await expect(alias).toBeClose({ shape: [n], values: want }, { relative: dtype === "f32" ? 0 : 2 ** -8 });
  }
  const x = requireGrad(tensor(device, [1, 2]));
  expect(assign(x, x)).toBe(x);
  expect(() => assign(x, zeros(device, [1, 2]))).toThrow(/assign: \[1, 2\] does not fit into \[2\]/);
  expect(() => assign(unary.exp(x), zeros(device, [2]))).toThrow(/\[2\] was made by exp on the tape/);
  expect(() => assign(zeros(device, [2]), x)).toThrow(/no gradient flows through it; call it inside untaped/);
});

test("a scope refuses a function that waits, and frees what was made before", async () => {
  using device = await openDevice(quiet);
  const { live } = device.memory();
  const asynchronous = (): Promise<Tensor> =>
    scope(async () => {
      const x = zeros(device, [10]);
      await x.read();
      return x;
    });
  expect(asynchronous).toThrow(UsageError);
  expect(asynchronous).toThrow(/asynchronous; do the waiting outside/);
  await device.sync();
  expect(device.memory().live).toBe(live);
});

test("a scope that throws frees what was made in it, tape and all", async () => {
  using device = await openDevice(quiet);
  const x = requireGrad(tensor(device, [1, 2]));
  const { live } = device.memory();
  const failing = (): void =>
    scope(() => {
      const y = unary.exp(unary.square(x));
      scope(() => unary.sin(y));
      throw new Error("mine");
    });
  expect(failing).toThrow("mine");
  expect(device.memory().live).toBe(live);
});

test("tensors of two devices do not meet", async ({ device }) => {
  using other = await openDevice(quiet);
  const [a, b] = [zeros(device, [2, 2]), zeros(other, [2, 2])];
  const message = /live on two devices/;
  expect(() => add(a, b)).toThrow(UsageError);
  expect(() => add(a, b)).toThrow(message);
  expect(() => matmul(a, b)).toThrow(message);
  expect(() => assign(a, b)).toThrow(message);
  expect(() => new AdamW([a]).step([b])).toThrow(message);
});
