/** A kernel: one WGSL entry point, its bindings, its uniforms and the knobs the tuner may turn. */
import { checkBindingCount, type Form, preamble, pushWindows, type Slot } from "./bindings.ts";
import { bits, type DType } from "./dtype.ts";
import { DeviceError, ShapeError, UsageError } from "./errors.ts";
import type { Binding, Device } from "./gpu/device.ts";
import type { Access, Pipeline } from "./gpu/pipelines.ts";
import { hashOf } from "./gpu/tunings.ts";
import { halfFunctions } from "./half.wgsl.ts";
import { powerOfFour, type TunableCall, tunedSetting } from "./knobs.ts";
import { print, size } from "./shape.ts";
import { emptyTensor, type Tensor, type TensorSpec } from "./tensor.ts";
import { main, wgsl } from "./wgsl.ts";

/** A 4-byte member of the uniform struct. */
export type Scalar = "u32" | "i32" | "f32";
/** The values each knob may take; the first is the default. */
export type Knobs = Readonly<Record<string, readonly (number | boolean | string)[]>>;
/** One value for each knob. */
export type Setting<K extends Knobs = Knobs> = { readonly [N in keyof K]: K[N][number] };
/** Workgroups along x, y and z; a bare number is folded into rows where it exceeds what the adapter allows. */
export type Grid = number | readonly [x: number, y?: number, z?: number];

/** The {@link Form} of some tensors, by name. */
export type Forms = Readonly<Record<string, Form>>;

/** What {@link defineKernel} takes. */
export interface KernelSpec<
  I extends string,
  O extends string,
  W extends string,
  U extends Readonly<Record<string, Scalar>>,
  K extends Knobs,
> {
  /** `op.part`, as errors, memory labels and timings print it. */
  readonly name: string;
  /** Tensors that are read. */
  readonly inputs: readonly I[];
  /** Tensors that are made. A 16-bit output that is stored element by element is computed in f32 and packed afterwards. */
  readonly outputs: readonly O[];
  /** Tensors that are changed in place. */
  readonly updates?: readonly W[];
  readonly uniforms: U;
  readonly knobs: K;
  /** What a setting asks of the device; one that it lacks is never chosen. */
  needs?(setting: Setting<K>): readonly GPUFeatureName[];
  /** The knobs that suit a device and a call, in place of their defaults. */
  prefers?(device: Device, uniforms: { readonly [N in keyof U]: number }): Partial<Setting<K>>;
  /**
   * Which calls share what the tuner finds for one of them; by default those whose whole numbers lie between the same
   * powers of four.
   */
  shapeClass?(uniforms: { readonly [N in keyof U]: number }): string;
  /** Which tensors are seen otherwise than element by element. */
  forms?(setting: Setting<K>): Forms;
  /**
   * The WGSL, with `bindings` where they belong. For each tensor `x` there are `load_x(i)` and `store_x(i, value)`;
   * uniforms are `u.name`; {@link main} opens the entry point.
   */
  source(bindings: string, setting: Setting<K>, device: Device): string;
  grid(uniforms: { readonly [N in keyof U]: number }, setting: Setting<K>): Grid;
}

/** What a call may add. */
export interface CallOptions<K extends Knobs = Knobs> {
  /** Needed when the kernel has no tensor to take it from. */
  readonly device?: Device;
  /** Knobs to set for this call. */
  readonly knobs?: Partial<Setting<K>>;
}

/** A kernel as tests and the tuner see it. */
export interface Kernel {
  readonly kernelName: string;
  /** Every combination of the knobs. */
  settings(): readonly Setting[];
  /** Whether the device has what a setting needs. */
  runsOn(device: Device, setting: Setting): boolean;
  /** Runs `f` with one setting forced. */
  with<T>(setting: Setting, f: () => T): T;
}

/** A kernel as ops call it. */
export interface CallableKernel<
  I extends string,
  O extends string,
  W extends string,
  U extends Readonly<Record<string, Scalar>>,
  K extends Knobs,
> extends Kernel {
  /**
   * Records one dispatch; none when the grid or every output is empty.
   *
   * @param tensors   every input and update
   * @param outputs   the shape and dtype of every output
   * @returns         the outputs
   */
  (
    tensors: Readonly<Record<I | W, Tensor>>,
    outputs: Readonly<Record<O, TensorSpec>>,
    uniforms: { readonly [N in keyof U]: number },
    options?: CallOptions<K>,
  ): Record<O, Tensor>;

  /** A hash of its WGSL at some settings; without them at every one that the device can run. */
  sourceOn(device: Device, some?: readonly Setting<K>[]): string;
}

/**
 * Declares a kernel. Nothing is compiled until its first call, and then once for each knob setting and combination of dtypes.
 *
 * A WGSL error becomes a `KernelError` with the kernel's name, the line and the call's shapes, thrown by the next read or sync.
 */
export function defineKernel<
  const I extends string = never,
  const O extends string = never,
  const W extends string = never,
  const U extends Readonly<Record<string, Scalar>> = Record<never, Scalar>,
  const K extends Knobs = Record<never, never>,
>(spec: KernelSpec<I, O, W, U, K>): CallableKernel<I, O, W, U, K> {
  const updates = spec.updates ?? [];
  const bound = [...spec.inputs, ...updates] as readonly (I | W)[];
  const uniformNames = Object.keys(spec.uniforms);
  const uniformTypes = Object.values(spec.uniforms);
  const knobNames = Object.keys(spec.knobs);
  const uniformBytes = Math.ceil(uniformNames.length / 4) * 16;
  const defaults = Object.fromEntries(
    Object.entries(spec.knobs).map(([knob, values]) => [knob, values[0]]),
  ) as Setting<K>;
  const known = new WeakMap<Device, Map<string, Pipeline>>();
  let forced: Setting<K> | undefined;
  const sources = new WeakMap<Device, string>();

  const settings = (): readonly Setting<K>[] =>
    Object.entries(spec.knobs).reduce<Setting[]>(
      (all, [knob, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [knob]: value }))),
      [{}],
    ) as unknown as readonly Setting<K>[];
  const runsOn = (device: Device, setting: Setting<K>): boolean =>
    (spec.needs?.(setting) ?? []).every((feature) => device.features.has(feature));

  /** What tells apart this kernel's text from an older one's: a choice of the tuner is for one text. */
  function sourceOn(device: Device, some?: readonly Setting<K>[]): string {
    const known = some ? undefined : sources.get(device);
    if (known !== undefined) return known;
    const all = some ?? settings().filter((setting) => runsOn(device, setting));
    const source = hashOf(
      ...all.map((one) => `${JSON.stringify([one, spec.forms?.(one)])} ${spec.source("", one, device)}`),
    );
    if (!some) sources.set(device, source);
    return source;
  }

  /** The setting that the tuner has stored for a call, if it has one that still exists. */
  function tuned(
    device: Device,
    tensors: Readonly<Record<I | W, Tensor>>,
    outputs: Readonly<Record<O, TensorSpec>>,
    uniforms: { readonly [N in keyof U]: number },
    named: Partial<Setting<K>>,
    usual: Setting<K>,
  ): Setting<K> | null {
    const free = knobNames.filter((knob) => !(knob in named));
    if (free.length === 0) return null;
    let problem = "";
    for (const name of bound) problem += `${tensors[name].dtype} `;
    for (const name of spec.outputs) problem += `${outputs[name].dtype} `;
    for (const knob in named) problem += `${knob}=${named[knob]} `;
    problem += spec.shapeClass?.(uniforms) ?? classOf(uniformTypes, uniformNames, uniforms);

    const all = (): readonly Setting<K>[] => settings().filter((one) => runsOn(device, one));
    const call: TunableCall<Setting<K>> = {
      name: spec.name,
      source: sourceOn(device),
      problem,
      settings() {
        const open = all().filter((one) => Object.entries(named).every(([knob, value]) => one[knob] === value));
        const isUsual = (one: Setting<K>): boolean => free.every((knob) => one[knob] === usual[knob]);
        return [...open.filter(isUsual), ...open.filter((one) => !isUsual(one))];
      },
      tensors,
      updates,
      run: (others, knobs) =>
        Object.values<Tensor>(run(others as typeof tensors, outputs, uniforms, { device, knobs })),
    };
    return tunedSetting(device, call, all);
  }

  /** The pipeline of one setting for these dtypes and window counts. */
  function specialise(
    device: Device,
    chosen: Setting<K>,
    dtypes: readonly DType[],
    windows: readonly number[],
    call: string,
  ): Pipeline {
    const names = [...bound, ...spec.outputs] as readonly (I | O | W)[];
    const forms: Forms = spec.forms?.(chosen) ?? {};
    const slots = names.map((name, i): Slot => ({
      name,
      dtype: dtypes[i] as DType,
      form: forms[name] ?? "scalar",
      access: i < spec.inputs.length ? "read" : "write",
      windows: windows[i] as number,
    }));
    checkBindingCount(spec.name, slots, device.limits);
    const access = slots.flatMap((slot) => Array<Access>(slot.windows).fill(slot.access));
    const code = spec.source(preamble(slots, spec.uniforms, device.limits), chosen, device);
    return device.pipeline({ name: spec.name, code, access, uniformBytes, call });
  }

  const run = (
    tensors: Readonly<Record<I | W, Tensor>>,
    outputs: Readonly<Record<O, TensorSpec>>,
    uniforms: { readonly [N in keyof U]: number },
    options: CallOptions<K> = {},
  ): Record<O, Tensor> => {
    const device = options.device ?? (bound[0] === undefined ? undefined : tensors[bound[0]].device);
    if (!device) throw new UsageError(`${spec.name}: it has no tensor to take a device from; pass { device }`);
    let chosen = forced ?? (spec.prefers ? { ...defaults, ...spec.prefers(device, uniforms) } : defaults);
    if (!forced && knobNames.length > 0 && device.tunings.concerns(spec.name)) {
      chosen = tuned(device, tensors, outputs, uniforms, options.knobs ?? {}, chosen) ?? chosen;
    }
    if (options.knobs) chosen = { ...chosen, ...options.knobs };

    const made = {} as Record<O, Tensor>;
    for (const name of spec.outputs) {
      const { shape, dtype } = outputs[name];
      // Two 16-bit elements share a word, and two invocations must not write one word.
      const wide = bits(dtype) === 16 && (spec.forms?.(chosen)[name] ?? "scalar") === "scalar";
      made[name] = emptyTensor(device, { shape, dtype: wide ? "f32" : dtype }, spec.name);
    }

    const grid = foldGrid(spec.grid(uniforms, chosen), device, spec.name);
    const empty = spec.outputs.length > 0 && spec.outputs.every((name) => size(outputs[name].shape) === 0);
    if (!empty && grid[0] * grid[1] * grid[2] > 0) {
      const seen = [...bound.map((name) => tensors[name]), ...spec.outputs.map((name) => made[name])];
      const windows: number[] = [];
      const bindings: Binding[] = [];
      let key = "";
      for (const tensor of seen) {
        const { storage, dtype } = tensor;
        if (storage.device !== device) device.refuseMixing(storage.device, spec.name);
        const count = pushWindows(bindings, storage.buffer, tensor.offset, tensor.bytes, device.limits);
        windows.push(count);
        key += count === 1 ? `${dtype} ` : `${dtype}*${count} `;
      }
      for (const knob in chosen) key += `${chosen[knob]} `;

      let pipelines = known.get(device);
      if (!pipelines) known.set(device, (pipelines = new Map()));
      let pipeline = pipelines.get(key);
      if (!pipeline) {
        const call = bound.map((name) => `${name} ${print(tensors[name].shape)} ${tensors[name].dtype}`).join(", ");
        const dtypes = seen.map(({ dtype }) => dtype);
        pipeline = specialise(device, chosen, dtypes, windows, `(${call})`);
        pipelines.set(key, pipeline);
      }
      for (const name of updates) tensors[name].storage.version++;
      device.record({
        pipeline,
        bindings,
        uniformTypes,
        uniforms: uniformNames.map((name) => uniforms[name] as number),
        grid,
      });
    }

    for (const name of spec.outputs) {
      if (made[name].dtype !== outputs[name].dtype) made[name] = packed(made[name], outputs[name].dtype);
    }
    return made;
  };

  return Object.assign(run, {
    kernelName: spec.name,
    settings,
    runsOn: (device, setting) => runsOn(device, setting as Setting<K>),
    sourceOn,
    with<T>(setting: Setting, f: () => T): T {
      const was = forced;
      forced = setting as Setting<K>;
      try {
        return f();
      } finally {
        forced = was;
      }
    },
  } satisfies Kernel & { sourceOn: typeof sourceOn });
}

/** The powers of four that whole numbers lie between: 0, 1 to 3, 4 to 15 and so on. */
function classOf(
  types: readonly Scalar[],
  names: readonly string[],
  uniforms: Readonly<Record<string, number>>,
): string {
  let name = "";
  for (let i = 0; i < names.length; i++) {
    if (types[i] !== "f32") name += `${powerOfFour(uniforms[names[i] as string] as number)} `;
  }
  return name;
}

/** Folds a long row of workgroups so that no side exceeds the adapter's limit. */
function foldGrid(grid: Grid, device: Device, name: string): readonly [number, number, number] {
  const most = device.limits.maxComputeWorkgroupsPerDimension;
  if (typeof grid === "number") {
    const rows = Math.ceil(grid / most);
    if (rows <= 1) return [grid, 1, 1];
    if (rows <= most) return [Math.ceil(grid / rows), rows, 1];
    throw new DeviceError(`${name}: ${grid} workgroups are more than the adapter's ${most} by ${most}`);
  }
  const [x, y = 1, z = 1] = grid;
  if (x > most || y > most || z > most) {
    throw new ShapeError(
      `${name}: its grid ${print([x, y, z])} exceeds the adapter's ${most} workgroups along an axis`,
    );
  }
  return [x, y, z];
}

/** Packs f32 into words of two 16-bit floats, rounding to the nearest and ties to even. */
function packed(wide: Tensor, dtype: DType): Tensor {
  const n = wide.size;
  const kernel = dtype === "bf16" ? packBf16 : packF16;
  const { y } = kernel({ x: wide }, { y: { shape: wide.shape, dtype } }, { n, words: Math.ceil(n / 2) });
  wide.dispose();
  return y;
}

const packBf16 = packKernel("pack.bf16", halfFunctions.bf16);
const packF16 = packKernel("pack.f16", halfFunctions.f16);

function packKernel(name: string, half: string) {
  return defineKernel({
    name,
    inputs: ["x"],
    outputs: ["y"],
    uniforms: { n: "u32", words: "u32" },
    knobs: {},
    forms: () => ({ y: "words" }),
    source: (bindings) => wgsl`
      ${bindings}
      ${half}
      ${main(64)}
        let i = group * 64u + lane;
        if (i >= u.words) { return; }
        var word = half(load_x(2u * i));
        if (2u * i + 1u < u.n) { word |= half(load_x(2u * i + 1u)) << 16u; }
        store_y(i, word);
      }`,
    grid: ({ words }) => Math.ceil(words / 64),
  });
}
