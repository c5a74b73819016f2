/** What `rot-cli doctor` finds out. Nothing in a report is secret: no paths but the cache, no names, no addresses. */
import { readFileSync, statfsSync } from "node:fs";
import { arch, availableParallelism, cpus, freemem, platform, totalmem, type } from "node:os";
import { type Device, openDevice, UsageError } from "@rot/tensor";
import { version } from "../version.ts";
import { selfTest, type SelfTest } from "./self-test.ts";

/** The whole report; `--json` prints it as it is. Sizes are in bytes. */
export interface Report {
  readonly version: string;
  readonly node: string;
  readonly system: {
    readonly name: string;
    readonly platform: string;
    readonly processor: string;
    readonly cores: number;
  };
  readonly memory: { readonly total: number; readonly free: number };
  readonly disk: { readonly free: number };
  readonly adapter: Adapter | null;
  readonly selfTest: SelfTest | null;
  readonly advice: readonly string[];
  readonly healthy: boolean;
}

/** What the device says of itself. */
export interface Adapter {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly kind: string;
  readonly features: {
    readonly f16: boolean;
    readonly subgroups: readonly [number, number] | null;
    readonly timestampQuery: boolean;
    readonly subgroupMatrix: boolean;
  };
  readonly limits: Readonly<Record<string, number>>;
}

/**
 * Examines the machine. A device that cannot be opened is part of the report, not an error.
 *
 * @throws {UsageError} when a setting is not one
 */
export async function examine(adapter: string | undefined): Promise<Report> {
  const advice: string[] = [];
  let device: Device | undefined;
  let test: SelfTest | null = null;
  try {
    device = await openDevice({ adapter });
    test = await selfTest(device);
    if (!test.passed)
      advice.push(
        `The self-test failed on ${device.name}: update its driver, or choose another adapter with --adapter.`,
      );
    if (device.kind !== "hardware") {
      advice.push(
        "Only a software adapter was found: right, but slow. With a GPU, install its Vulkan driver (on Linux, `vulkaninfo` must list it).",
      );
    }
    if (device.kind === "embedded") {
      advice.push(
        "The embedded adapter is the slowest. A system lavapipe of Mesa 23 or newer is several times faster.",
      );
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    advice.push(error instanceof Error ? error.message : String(error));
  }
  const report: Report = {
    version,
    node: process.versions.node,
    system: {
      name: systemName(),
      platform: `${platform()} ${arch()}`,
      processor: cpus()[0]?.model.trim() ?? "unknown",
      cores: availableParallelism(),
    },
    memory: { total: totalmem(), free: freemem() },
    disk: { free: freeDisk() },
    adapter: device ? describe(device) : null,
    selfTest: test,
    advice,
    healthy: test?.passed ?? false,
  };
  device?.destroy();
  return report;
}

function describe({ name, info, kind, features, limits }: Device): Adapter {
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  return {
    name,
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    kind,
    features: {
      f16: features.has("shader-f16"),
      subgroups: features.has("subgroups") ? [least ?? 0, most ?? 0] : null,
      timestampQuery: features.has("timestamp-query"),
      subgroupMatrix: features.has("chromium-experimental-subgroup-matrix"),
    },
    limits: { ...limits },
  };
}

/** The name a distribution gives itself, or that of the kernel. */
function systemName(): string {
  try {
    const release = readFileSync("/etc/os-release", "utf8");
    return /^PRETTY_NAME="?([^"\n]+)/m.exec(release)?.[1] ?? type();
  } catch {
    return type(); // not Linux
  }
}

function freeDisk(): number {
  const { bavail, bsize } = statfsSync(".");
  return bavail * bsize;
}
