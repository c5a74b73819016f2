/** `navigator.gpu` from Dawn, for engines that expect a browser. */
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);

/** @returns the GPU, which also stands in `navigator` from now on */
export function provideGpu() {
  const gpu = create([]);
  Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: "node" }, configurable: true });
  return gpu;
}
