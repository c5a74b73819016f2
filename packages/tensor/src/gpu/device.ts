/// <reference lib="esnext.disposable" preserve="true" />
/** The device: it records work, sends it in batches, and gives results, memory figures and times back. */
import { platform } from "#platform";
import { DeviceError, UsageError } from "../errors.ts";
import type { AdapterKind } from "./adapter.ts";
import { Faults } from "./faults.ts";
import { type Pipeline, Pipelines, type PipelineSource } from "./pipelines.ts";
import { BufferPool, type DeviceBuffer, type Memory } from "./pool.ts";
import { Staging } from "./staging.ts";
import { type KernelTime, Timing } from "./timing.ts";
import { Tunings } from "./tunings.ts";
import { Uniforms } from "./uniforms.ts";

/** Dispatches that are recorded before a batch goes out by itself: the device starts while the CPU records on. */
const BATCH_DISPATCHES = 256;
/** Bytes of one upload or readback; larger ones go in pieces. */
const PIECE_BYTES = 2 ** 26;
/** Bind groups that are remembered before all are forgotten. */
const BIND_GROUPS = 8192;

/** The limits that the engine plans with, in bytes or counts. */
export interface Limits {
  readonly maxBufferSize: number;
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
  readonly maxComputeWorkgroupsPerDimension: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly maxComputeWorkgroupSizeX: number;
  readonly maxComputeWorkgroupStorageSize: number;
}

/** A range of a buffer that a kernel is bound to. */
export interface Binding {
  readonly buffer: DeviceBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** One dispatch, ready to record. */
export interface Dispatch {
  readonly pipeline: Pipeline;
  readonly bindings: readonly Binding[];
  readonly uniformTypes: readonly ("u32" | "i32" | "f32")[];
  readonly uniforms: readonly number[];
  readonly grid: readonly [number, number, number];
}

/** What a device is told when it is made. */
export interface DeviceSettings {
  readonly debug: number;
  readonly kernels?: "fused" | "reference";
  readonly arithmetic?: "f32" | "f16";
  readonly limits?: Partial<Limits>;
  readonly tunings?: Tunings;
  readonly notice: (line: string) => void;
}

/** lavapipe makes a memory map for every buffer. Linux allows a process 65,530, and past them lavapipe crashes. */
const SOFTWARE_BUFFERS = 30_000;

/** The limits that a device asks its adapter for. */
export const limitNames = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupsPerDimension",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupStorageSize",
] as const satisfies readonly (keyof Limits)[];

export class Device {
  readonly gpu: GPUDevice;
  readonly kind: AdapterKind;
  readonly info: GPUAdapterInfo;
  readonly limits: Limits;
  readonly features: ReadonlySet<string>;
  readonly debug: number;
  readonly kernels: "fused" | "reference";
  /** What matrix products may multiply in. */
  readonly arithmetic: "f32" | "f16";
  readonly notice: (line: string) => void;
  /** The settings that kernels take on this device. */
  readonly tunings: Tunings;
  /** The object that Dawn's promises hang on; held so that it is not collected. */
  readonly #root: GPU;
  readonly #faults: Faults;
  readonly #pool: BufferPool;
  readonly #pipelines: Pipelines;
  readonly #staging: Staging;
  readonly #uniforms: Uniforms;
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  #timing: Timing | undefined;
  #times: Promise<KernelTime[]>[] = [];
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  /** The pipeline that the pass has. */
  #bound: Pipeline | undefined;
  #recorded = 0;
  #batch = 0;
  #dispatches = 0;

  /** Made by `openDevice`. */
  constructor(gpu: GPUDevice, root: GPU, kind: AdapterKind, info: GPUAdapterInfo, options: DeviceSettings) {
    this.gpu = gpu;
    this.#root = root;
    this.kind = kind;
    this.info = info;
    this.features = gpu.features as unknown as ReadonlySet<string>;
    this.debug = options.debug;
    this.kernels = options.kernels ?? "fused";
    this.arithmetic = options.arithmetic ?? "f32";
    this.notice = options.notice;
    this.tunings = options.tunings ?? new Tunings();
    this.limits = Object.fromEntries(
      limitNames.map((name) => [name, Math.min(gpu.limits[name], options.limits?.[name] ?? Number.POSITIVE_INFINITY)]),
    ) as Record<keyof Limits, number>;
    this.#faults = new Faults(gpu, this.name, () => (kind === "hardware" ? () => {} : platform.rest()));
    const maxBuffers = kind === "software" ? SOFTWARE_BUFFERS : Infinity;
    this.#pool = new BufferPool(gpu, this.limits.maxBufferSize, this.#faults, maxBuffers);
    this.#uniforms = new Uniforms(gpu);
    this.#pipelines = new Pipelines(gpu, this.#faults, this.#uniforms);
    this.#staging = new Staging(gpu, this.#faults, () => this.#pool.memory().live);
    if (this.debug >= 1) this.notice(`device: ${this.name}, ${kind}, ${[...this.features].join(" ")}`);
    if (this.debug >= 2) this.startTiming();
  }

  /** What the adapter calls itself. */
  get name(): string {
    const { description, device, vendor, architecture } = this.info;
    return description || device || [vendor, architecture].join(" ").trim() || "an unnamed adapter";
  }

  /** Invocations in a subgroup where it is one fixed size, 0 without the feature. */
  get subgroupSize(): number {
    const { subgroupMinSize: least, subgroupMaxSize: most } = this.info;
    return this.features.has("subgroups") && least === most ? (least ?? 0) : 0;
  }

  /** Whether work is done: on a device to rehearse on, values are not worth reading. */
  get computes(): boolean {
    return true;
  }

  get isLost(): boolean {
    return this.#faults.isLost;
  }

  /** Dispatches recorded since the device was opened. */
  get dispatchCount(): number {
    return this.#dispatches;
  }

  /** Live, peak and pooled bytes, and the live ones by label. */
  memory(): Memory {
    return this.#pool.memory();
  }

  /** Begins to look for a new peak of {@link memory}. */
  resetPeak(): void {
    this.#pool.resetPeak();
  }

  /** @throws {OutOfMemoryError | DeviceLostError} */
  acquire(bytes: number, label: string): DeviceBuffer {
    this.#faults.refuseIfLost();
    return this.#pool.acquire(bytes, label);
  }

  release(buffer: DeviceBuffer): void {
    this.#pool.release(buffer);
    if (this.#pool.overfull) this.trim();
  }

  /** Gives pooled memory back to the system. */
  trim(): void {
    this.flush();
    this.#pool.trim();
    this.#bindGroups.clear();
  }

  pipeline(source: PipelineSource): Pipeline {
    if (this.debug >= 4) this.notice(`${source.name} ${source.call}\n${source.code}`);
    return this.#pipelines.get(source);
  }

  /** Records one dispatch. */
  record({ pipeline, bindings, uniformTypes, uniforms, grid }: Dispatch): void {
    this.#faults.refuseIfLost();
    if (pipeline.fault) throw pipeline.fault;
    if (this.#recorded >= BATCH_DISPATCHES || !this.#uniforms.fits(pipeline.uniformBytes)) this.flush();
    const group = this.#bindGroup(pipeline, bindings);
    for (const { buffer } of bindings) buffer.batch = this.#batch;
    const pass = this.#openPass(pipeline.name, bindings);
    if (pipeline !== this.#bound) pass.setPipeline(pipeline.gpu);
    this.#bound = pipeline;
    pass.setBindGroup(0, group);
    if (pipeline.uniformBytes > 0) {
      pass.setBindGroup(1, this.#uniforms.push(uniformTypes, uniforms, pipeline.uniformBytes));
    }
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    this.#recorded++;
    this.#dispatches++;
    if (this.#timing) this.#closePass();
  }

  #bindGroup(pipeline: Pipeline, bindings: readonly Binding[]): GPUBindGroup {
    let key = `${pipeline.id}`;
    for (const { buffer, offset, bytes } of bindings)
      key += offset ? `,${buffer.id}+${offset}:${bytes}` : `,${buffer.id}:${bytes}`;
    const known = this.#bindGroups.get(key);
    if (known) return known;
    const entries: GPUBindGroupEntry[] = bindings.map(({ buffer, offset, bytes }, binding) => ({
      binding,
      resource: { buffer: buffer.gpu, offset, size: bytes },
    }));
    const group = this.gpu.createBindGroup({ label: pipeline.name, layout: pipeline.layout, entries });
    if (this.#bindGroups.size >= BIND_GROUPS) this.#forgetBindGroups();
    this.#bindGroups.set(key, group);
    return group;
  }

  #forgetBindGroups(): void {
    this.#bindGroups.clear();
    if (this.kind !== "hardware") platform.collectGarbage();
  }

  #openEncoder(): GPUCommandEncoder {
    this.#encoder ??= this.gpu.createCommandEncoder({ label: "rot" });
    return this.#encoder;
  }

  #openPass(kernel: string, bindings: readonly Binding[]): GPUComputePassEncoder {
    if (this.#pass) return this.#pass;
    const bytes = this.#timing ? bindings.reduce((sum, binding) => sum + binding.bytes, 0) : 0;
    this.#pass = this.#openEncoder().beginComputePass(
      this.#timing ? { label: kernel, timestampWrites: this.#timing.writes(kernel, bytes) } : {},
    );
    return this.#pass;
  }

  #closePass(): void {
    this.#pass?.end();
    this.#bound = undefined;
    this.#pass = undefined;
  }

  /** Sends what has been recorded to the device, without waiting for it. */
  flush(): void {
    if (!this.#encoder) return;
    this.#closePass();
    const timed =
      this.#timing && !this.#timing.isEmpty
        ? this.#timing.collect(this.#encoder, (n) => this.#staging.acquire(n))
        : undefined;
    this.#uniforms.upload();
    const encoder = this.#encoder;
    this.#encoder = undefined;
    this.#recorded = 0;
    this.#batch++;
    this.gpu.queue.submit([encoder.finish()]);
    if (timed) {
      const times = this.#staging.take(timed.staging, timed.bytes).then(timed.parse);
      times.catch(() => {}); // whoever waits for the device sees the same error
      this.#times.push(times);
    }
  }

  /**
   * Waits until the device has done everything.
   *
   * @throws {KernelError | OutOfMemoryError | DeviceLostError} the first thing that went wrong since the last wait
   */
  async sync(): Promise<void> {
    this.#faults.refuseIfLost();
    this.flush();
    await this.#faults.settle(this.gpu.queue.onSubmittedWorkDone());
    if (this.debug >= 2) await this.#printTimes();
  }

  /** Puts bytes into a buffer, after everything that was recorded so far. `data.byteLength` is a multiple of 4. */
  upload(buffer: DeviceBuffer, data: ArrayBufferView<ArrayBuffer>, offset = 0): void {
    this.#faults.refuseIfLost();
    // The queue would run the write before commands that are recorded but not sent.
    if (buffer.batch === this.#batch && this.#encoder) this.flush();
    for (let at = 0; at < data.byteLength; at += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, data.byteLength - at);
      this.gpu.queue.writeBuffer(buffer.gpu, offset + at, data.buffer, data.byteOffset + at, bytes);
    }
  }

  /**
   * Reads bytes back, after everything that was recorded so far.
   *
   * @param offset  where they begin, a multiple of 4
   * @throws {KernelError | OutOfMemoryError | DeviceLostError}
   */
  async read(buffer: DeviceBuffer, bytes: number, offset = 0): Promise<ArrayBuffer> {
    this.#faults.refuseIfLost();
    const pieces: { at: number; bytes: number; staging: GPUBuffer }[] = [];
    this.#closePass();
    for (let at = 0; at < bytes; at += PIECE_BYTES) {
      const part = Math.min(PIECE_BYTES, bytes - at);
      const staging = this.#staging.acquire(part);
      this.#openEncoder().copyBufferToBuffer(buffer.gpu, offset + at, staging, 0, Math.ceil(part / 4) * 4);
      pieces.push({ at, bytes: part, staging });
    }
    this.flush();
    if (pieces.length === 1) {
      const only = pieces[0] as (typeof pieces)[0];
      const copy = await this.#staging.take(only.staging, only.bytes);
      if (this.debug >= 2) await this.#printTimes();
      return copy;
    }
    const whole = new Uint8Array(bytes);
    await Promise.all(
      pieces.map(async (piece) =>
        whole.set(new Uint8Array(await this.#staging.take(piece.staging, piece.bytes)), piece.at),
      ),
    );
    return whole.buffer;
  }

  /** Begins to time every dispatch. Each gets a pass of its own, which costs some microseconds. */
  startTiming(): void {
    if (!this.features.has("timestamp-query")) {
      throw new DeviceError(`${this.name} has no timestamp-query, so kernels cannot be timed on it`);
    }
    this.flush();
    this.#timing ??= new Timing(this.gpu);
  }

  /** The dispatches since {@link startTiming} or the last call, in order. */
  async takeTimes(): Promise<KernelTime[]> {
    this.flush();
    const batches = this.#times;
    this.#times = [];
    return (await Promise.all(batches)).flat();
  }

  /** Stops timing and forgets what was not taken. */
  stopTiming(): void {
    this.flush();
    this.#timing?.destroy();
    this.#timing = undefined;
    this.#times = [];
  }

  async #printTimes(): Promise<void> {
    for (const { kernel, milliseconds, bytes } of await this.takeTimes()) {
      // Some adapters tick so coarsely that a short kernel takes no time at all.
      const rate = milliseconds > 0 ? (bytes / milliseconds / 1e6).toFixed(2) : "?";
      this.notice(`${kernel.padEnd(32)} ${milliseconds.toFixed(3).padStart(9)} ms ${rate.padStart(8)} GB/s`);
    }
  }

  /** Frees everything. Whatever waits for the device is rejected with a {@link DeviceLostError}. */
  destroy(): void {
    this.#closePass();
    this.#encoder = undefined;
    this.#faults.lose("it was destroyed");
    this.gpu.destroy();
    void this.#root;
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  /** @throws {UsageError} when two tensors of one call live on different devices */
  refuseMixing(other: Device, who: string): void {
    if (other !== this) throw new UsageError(`${who}: its tensors live on two devices, ${this.name} and ${other.name}`);
  }
}
