/** `npm run bench -- [name]`: times ops on this machine's adapter, beside their references, in interleaved rounds. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { binary, type Device, full, openDevice, scope } from "@rot/tensor";
import { Command } from "commander";
import { measurePeaks, type Peaks } from "./probes.ts";
import { type Circumstances, type Dispatch, type Line, markdown, table } from "./report.ts";
import { type Benchmark, benchmarks } from "./suites.ts";
import { median, time } from "./timing.ts";

interface Options {
  readonly adapter?: string;
  readonly rounds: string;
  readonly json?: boolean;
  readonly save?: boolean;
}

await new Command("bench")
  .description("time ops on this machine's adapter, beside their references, in interleaved rounds")
  .argument("[name]", "only benchmarks whose name contains this")
  .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
  .option("--rounds <n>", "rounds, of which the median counts", "7")
  .option("--json", "print one JSON object")
  .option("--save", "also write a dated Markdown file into benchmarks/results")
  .addHelpText("after", "\nExamples:\n  npm run bench -- matmul\n  npm run bench -- --adapter embedded --save")
  .action(run)
  .parseAsync();

async function run(name: string | undefined, options: Options): Promise<void> {
  const chosen = benchmarks.filter((benchmark) => !name || benchmark.name.includes(name));
  if (chosen.length === 0) {
    throw new Error(`no benchmark is called ${name}; there are: ${benchmarks.map((b) => b.name).join(", ")}`);
  }
  const rounds = Number(options.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds is a whole number from 1, got ${options.rounds}`);
  const device = await openDevice({ adapter: options.adapter });
  const before = loadavg()[0] as number;
  const peaks = await measurePeaks(device, rounds);
  const dispatch = await measureDispatch(device, rounds);
  const lines: Line[] = [];
  for (const benchmark of chosen) {
    process.stderr.write(`${benchmark.name} …\n`);
    lines.push(...(await measure(device, benchmark, rounds, peaks)));
    device.trim();
  }
  const circumstances: Circumstances = {
    adapter: device.name,
    kind: device.kind,
    commit: execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8" }).trim(),
    date: new Date().toISOString(),
    load: [before, loadavg()[0] as number],
    rounds,
    peaks,
    dispatch,
  };
  device.destroy();
  console.log(options.json ? JSON.stringify({ ...circumstances, lines }, null, 2) : table(circumstances, lines));
  if (options.save) save(circumstances, lines);
}

async function measure(
  device: Device,
  { name, flops, bytes, prepare }: Benchmark,
  rounds: number,
  peaks: Peaks,
): Promise<Line[]> {
  const candidates = prepare(device);
  const results = await time(device, candidates, rounds);
  const reference = median([...results.values()][0] ?? []);
  return candidates.map(({ name: candidate, bytes: moved = bytes }) => {
    const middle = median(results.get(candidate) ?? []);
    const gigaflops = flops ? flops / middle / 1e6 : null;
    const gigabytes = moved ? moved / middle / 1e6 : null;
    const parts = [gigaflops && gigaflops / peaks.gigaflops, gigabytes && gigabytes / peaks.gigabytes].filter(
      (p) => p !== null,
    );
    return {
      benchmark: name,
      candidate,
      milliseconds: middle,
      gigaflops,
      gigabytes,
      partOfPeak: parts.length > 0 ? Math.max(...parts) : null,
      ratio: reference / middle,
    };
  });
}

/** Additions on 256 elements, each to the result of the one before: 200 to record, 1,000 to run. */
async function measureDispatch(device: Device, rounds: number): Promise<Dispatch> {
  const start = full(device, [256], 1);
  const chain = (length: number): void =>
    scope(() => {
      let x = start;
      for (let i = 0; i < length; i++) x = binary.add(x, 1);
    });
  const recording: number[] = [];
  const whole: number[] = [];
  for (let round = 0; round < rounds + 5; round++) {
    await device.sync();
    // So few wait to be sent: a software adapter does not yet compute beside, on the same cores.
    const from = performance.now();
    chain(200);
    const recorded = (1000 * (performance.now() - from)) / 200;
    await device.sync();
    const begin = performance.now();
    chain(1000);
    await device.sync();
    // The first rounds compile, in JavaScript as on the device.
    if (round < 5) continue;
    recording.push(recorded);
    whole.push(performance.now() - begin);
  }
  start.dispose();
  return { microseconds: median(recording), thousand: median(whole) };
}

function save(circumstances: Circumstances, lines: readonly Line[]): void {
  const folder = new URL("../results/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  const adapter = circumstances.adapter
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, 24);
  const file = new URL(`${circumstances.date.slice(0, 10)}-${adapter.replace(/-$/, "")}.md`, folder);
  writeFileSync(file, markdown(circumstances, lines));
  process.stderr.write(`saved benchmarks/results/${file.pathname.split("/").at(-1)}\n`);
}
