/** The WGSL that binds tensors to a kernel, printed from its declaration: bindings, uniforms and element access. */
import { bits, type DType, scalarType } from "./dtype.ts";
import { DeviceError } from "./errors.ts";
import type { Binding, Limits } from "./gpu/device.ts";
import type { DeviceBuffer } from "./gpu/pool.ts";
import { halfFunctions, halvesOfWord } from "./half.wgsl.ts";

/**
 * How a kernel wants to see a tensor.
 *
 * - `scalar`: `load_x(i)` and `store_x(i, value)` by element, whatever the dtype; 16-bit floats are read as f32
 * - `vec4`: the same, four elements at a time; 16-bit floats are rounded as they are stored
 * - `words`: the 32-bit words as they are stored, `load_x(i) -> u32`
 * - `words4`: four words at a time, `load_x(i) -> vec4u`
 */
export type Form = "scalar" | "vec4" | "words" | "words4";

/** One tensor as a kernel is bound to it. */
export interface Slot {
  readonly name: string;
  readonly dtype: DType;
  readonly form: Form;
  readonly access: "read" | "write";
  /** How many bindings it takes: more than one where it is larger than the adapter's largest binding. */
  readonly windows: number;
}

/** Bytes in one window, a multiple of every alignment and element width. */
const windowBytes = (limits: Limits): number => Math.floor(limits.maxStorageBufferBindingSize / 256) * 256;

/** How many bindings a tensor of so many bytes takes. */
export const windowsOf = (bytes: number, limits: Limits): number => Math.max(1, Math.ceil(bytes / windowBytes(limits)));

/**
 * Adds the buffer ranges of a tensor, one for each window.
 *
 * @param first  where it begins in the buffer, in bytes
 * @returns      how many
 */
export function pushWindows(
  into: Binding[],
  buffer: DeviceBuffer,
  first: number,
  bytes: number,
  limits: Limits,
): number {
  const step = windowBytes(limits);
  const count = windowsOf(bytes, limits);
  for (let i = 0; i < count; i++) {
    into.push({ buffer, offset: first + i * step, bytes: Math.min(step, Math.max(4, bytes - i * step)) });
  }
  return count;
}

/** @throws {DeviceError} when the adapter allows fewer storage buffers than the slots take */
export function checkBindingCount(name: string, slots: readonly Slot[], limits: Limits): void {
  const count = slots.reduce((sum, slot) => sum + slot.windows, 0);
  if (count <= limits.maxStorageBuffersPerShaderStage) return;
  const parts = slots.map((slot) => `${slot.name} ${slot.windows}`).join(", ");
  throw new DeviceError(
    `${name} needs ${count} storage bindings (${parts}), the adapter allows ${limits.maxStorageBuffersPerShaderStage}: ` +
      `a tensor takes one for each ${windowBytes(limits)} bytes`,
  );
}

/** The whole preamble: every slot's bindings and accessors, and the uniform struct `u`. */
export function preamble(
  slots: readonly Slot[],
  uniforms: Readonly<Record<string, "u32" | "i32" | "f32">>,
  limits: Limits,
): string {
  const lines: string[] = [];
  let binding = 0;
  for (const slot of slots) {
    lines.push(slotText(slot, binding, windowBytes(limits)));
    binding += slot.windows;
  }
  const members = Object.entries(uniforms).map(([name, type]) => `${name}: ${type}`);
  if (members.length > 0) {
    lines.push(`struct Uniforms { ${members.join(", ")} }`, "@group(1) @binding(0) var<uniform> u: Uniforms;");
  }
  return lines.join("\n");
}

function slotText(slot: Slot, firstBinding: number, bytesOfWindow: number): string {
  const { name, windows, access } = slot;
  const stored = storedType(slot);
  const mode = access === "read" ? "read" : "read_write";
  const declare = (variable: string, i: number): string =>
    `@group(0) @binding(${firstBinding + i}) var<storage, ${mode}> ${variable}: array<${stored.type}>;`;
  if (windows === 1) {
    const at = (index: string): string => `${name}[${index}]`;
    return [declare(name, 0), ...accessors(slot, at, (index, value) => `${at(index)} = ${value};`)].join("\n");
  }
  const elements = bytesOfWindow / stored.bytes;
  const variables = Array.from({ length: windows }, (_, i) => `${name}_${i}`);
  const cases = (body: (variable: string, index: string) => string): string =>
    variables
      .map(
        (variable, i) =>
          `${i < windows - 1 ? `case ${i}u:` : "default:"} { ${body(variable, `j - ${i * elements}u`)} }`,
      )
      .join(" ");
  return [
    ...variables.map(declare),
    `fn get_${name}(j: u32) -> ${stored.type} { switch (j / ${elements}u) { ${cases((v, j) => `return ${v}[${j}];`)} } }`,
    access === "write"
      ? `fn set_${name}(j: u32, value: ${stored.type}) { switch (j / ${elements}u) { ${cases((v, j) => `${v}[${j}] = value;`)} } }`
      : "",
    ...accessors(
      slot,
      (index) => `get_${name}(${index})`,
      (index, value) => `set_${name}(${index}, ${value});`,
    ),
  ].join("\n");
}

/** What an element of the binding's array is. */
function storedType({ dtype, form }: Slot): { type: string; bytes: number } {
  if (form === "words") return { type: "u32", bytes: 4 };
  if (form === "words4") return { type: "vec4u", bytes: 16 };
  const half = bits(dtype) === 16;
  const scalar = half || dtype === "bool" ? "u32" : scalarType(dtype);
  if (form === "scalar") return { type: scalar, bytes: 4 };
  if (half) return { type: "vec2u", bytes: 8 };
  return { type: `vec4<${scalar}>`, bytes: 16 };
}

/** `load_x` and, where it is written, `store_x`. */
function accessors(slot: Slot, get: (i: string) => string, set: (i: string, value: string) => string): string[] {
  const { name, dtype, form, access } = slot;
  const stored = storedType(slot).type;
  const half = bits(dtype) === 16 && (form === "scalar" || form === "vec4");
  if (!half) {
    const load = `fn load_${name}(i: u32) -> ${stored} { return ${get("i")}; }`;
    return access === "read" ? [load] : [load, `fn store_${name}(i: u32, value: ${stored}) { ${set("i", "value")} }`];
  }
  const pair = halvesOfWord[dtype as keyof typeof halvesOfWord];
  if (form === "scalar") {
    return [`fn load_${name}(i: u32) -> f32 { let w = ${get("i >> 1u")}; return (${pair})[i & 1u]; }`];
  }
  const loads = [
    `fn pair_${name}(w: u32) -> vec2f { return ${pair}; }`,
    `fn load_${name}(i: u32) -> vec4f { let v = ${get("i")}; return vec4f(pair_${name}(v.x), pair_${name}(v.y)); }`,
  ];
  if (access === "read") return loads;
  const [x, y, z, w] = ["x", "y", "z", "w"].map((member) => `half_${name}(v.${member})`);
  return [
    ...loads,
    halfFunctions[dtype as keyof typeof halfFunctions].replace("fn half(", `fn half_${name}(`),
    `fn store_${name}(i: u32, v: vec4f) { ${set("i", `vec2u(${x} | (${y} << 16u), ${z} | (${w} << 16u))`)} }`,
  ];
}
