/** A report of `rot-cli doctor` for people to read. */
import type { Adapter, Report } from "./examine.ts";

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const yes = (has: boolean): string => (has ? "yes" : "no");

/** The report, one line a fact. */
export function reportText(report: Report): string {
  const { system, memory, disk, adapter, selfTest, advice } = report;
  const rows: [string, string][] = [
    ["rot-cli", report.version],
    ["Node", report.node],
    ["System", `${system.name}, ${system.platform}`],
    ["Processor", `${system.processor}, ${system.cores} cores`],
    ["Memory", `${gib(memory.total)}, ${gib(memory.free)} free`],
    ["Disk", `${gib(disk.free)} free here`],
    ...(adapter ? adapterRows(adapter) : ([["Adapter", "none"]] as [string, string][])),
  ];
  if (selfTest) {
    const { passed, size, error, gigaflops, seconds } = selfTest;
    const verdict = passed ? "passed" : "FAILED";
    rows.push([
      "Self-test",
      `${verdict}: matmul ${size}, error ${error.toExponential(1)}, ${gigaflops.toFixed(1)} GFLOP/s, ${seconds.toFixed(1)} s`,
    ]);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
  return `${[...lines, ...(report.healthy ? advice : []).map((line) => `\n${line}`)].join("\n")}\n`;
}

function adapterRows({ name, vendor, architecture, kind, features, limits }: Adapter): [string, string][] {
  const { subgroups } = features;
  const sizes = subgroups ? (subgroups[0] === subgroups[1] ? `${subgroups[0]}` : subgroups.join(" to ")) : "no";
  return [
    ["Adapter", `${name}, ${kind}`],
    ["", [vendor, architecture].filter(Boolean).join(", ") || "no vendor given"],
    [
      "Features",
      `f16 ${yes(features.f16)} · subgroups ${sizes} · timestamp-query ${yes(features.timestampQuery)} · subgroup matrix ${yes(features.subgroupMatrix)}`,
    ],
    [
      "Limits",
      `buffer ${gib(limits["maxBufferSize"] ?? 0)} · binding ${gib(limits["maxStorageBufferBindingSize"] ?? 0)} · ` +
        `${limits["maxStorageBuffersPerShaderStage"]} bindings · ${limits["maxComputeInvocationsPerWorkgroup"]} invocations and ` +
        `${(limits["maxComputeWorkgroupStorageSize"] ?? 0) / 1024} KiB a workgroup`,
    ],
  ];
}
