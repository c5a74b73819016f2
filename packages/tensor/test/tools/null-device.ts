/** A device that compiles and runs nothing: Dawn's null backend, whose shaders go through the whole of Tint's validation. */
import { Device } from "../../src/gpu/device.ts";
import { loadDawn } from "../../src/gpu/node/dawn.ts";

/** What the device is to believe of itself. */
export interface Pretended {
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly subgroupMatrixConfigs: readonly Readonly<Record<string, string | number>>[];
}

/** A null device with subgroups, subgroup matrices and f16, and of the sizes that are given. */
export async function nullDevice(pretended: Pretended, arithmetic: "f32" | "f16"): Promise<Device> {
  const dawn = await loadDawn();
  const root = dawn.create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await root.requestAdapter();
  if (!adapter) throw new Error("Dawn has no null backend");
  const requiredFeatures = [
    "subgroups",
    "subgroup-size-control",
    "shader-f16",
    "chromium-experimental-subgroup-matrix",
  ] as GPUFeatureName[];
  const { maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage } = adapter.limits;
  const gpu = await adapter.requestDevice({
    requiredFeatures,
    requiredLimits: { maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage },
  });
  const { vendor, architecture, device } = adapter.info;
  const info = { vendor, architecture, device, description: "null", ...pretended } as unknown as GPUAdapterInfo;
  return new Device(gpu, root, "hardware", info, { debug: 0, arithmetic, notice: () => {} });
}
