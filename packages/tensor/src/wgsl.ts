/**
 * The one door to `wgsl-preprocessor`, which ships neither types nor an `exports` map.
 *
 * `#if ${…}` / `#elif ${…}` / `#else` / `#endif` choose lines; `${…}` inserts a constant or a fragment.
 */
import { wgsl as tag } from "wgsl-preprocessor/wgsl-preprocessor.js";
import { UsageError } from "./errors.ts";

export type WgslValue = string | number | boolean;

/** @throws {UsageError} when a value would print as `undefined`, `NaN` or `[object Object]` */
export function wgsl(strings: TemplateStringsArray, ...values: readonly WgslValue[]): string {
  for (const [i, value] of values.entries()) {
    if (!["string", "number", "boolean"].includes(typeof value) || Number.isNaN(value)) {
      throw new UsageError(`wgsl: \${…} number ${i + 1} is ${String(value)}, after "${strings[i]?.slice(-24)}"`);
    }
  }
  return tag(strings, ...values);
}
