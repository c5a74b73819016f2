/** A run of benchmarks, as `--json` prints it and `--compare` reads it. */
import { readFileSync, statSync } from "node:fs";
import { UsageError } from "@rot/tensor";
import { z } from "zod";

const number = z.number().nonnegative();
const name = z.string().max(1000);

const lineSchema = z.object({
  benchmark: name,
  candidate: name,
  /** Ours, the plain thing that ours is measured against, or another engine. */
  by: z.enum(["ours", "reference", "webgpu", "wasm", "cpu"]),
  /** Of one run: the median over the rounds, and the first and third quartile. */
  milliseconds: number,
  quartiles: z.tuple([number, number]),
  rounds: number,
  gigaflops: number.nullable(),
  gigabytes: number.nullable(),
  tokensPerSecond: number.nullable(),
  /** The part of the device's measured peak that it reaches, in operations or bytes, whichever is nearer. */
  partOfPeak: number.nullable(),
  /** How many times faster than its reference. */
  ratio: number.nullable(),
  /** Whether it is what peers are measured against; of a peer, whether it computed the same. */
  comparable: z.boolean(),
  /** How many times faster than the best WebGPU peer it shall be; null where it is not measured against peers. */
  target: number.nullable(),
});

const reportSchema = z.object({
  adapter: name,
  kind: name,
  commit: name,
  /** Settings of `rot-cli tune` that the device knew; 0 when kernels ran at those that ship with them. */
  tunings: number,
  date: z.iso.datetime(),
  /** The machine's load average of the last minute, before and after. */
  load: z.tuple([number, number]),
  /** 10⁹ operations and 10⁹ bytes a second. */
  peaks: z.object({ gigaflops: number.positive(), gigabytes: number.positive() }),
  /** Microseconds of JavaScript to record a dispatch. */
  dispatchMicroseconds: number,
  peers: z.array(z.object({ name, version: name })),
  /** Peers that were asked for and did not start, and work that failed. */
  failures: z.array(z.object({ name, why: z.string().max(10_000) })),
  lines: z.array(lineSchema).max(100_000),
});

/** One candidate's result. */
export type Line = Readonly<z.infer<typeof lineSchema>>;
/** All results, and where and when they were measured. */
export type Report = Readonly<z.infer<typeof reportSchema>>;

/** Nobody's report is longer. */
const MOST_BYTES = 64 * 2 ** 20;

/** What `npm run` prints before the report when both go into one file: the script's name and its command line. */
const BANNER = /^\s*(?:> .*\s+)*(?=\{)/;

/**
 * Reads what `--json` printed.
 *
 * @throws {UsageError} when the file is no such report
 */
export function readReport(file: string): Report {
  const status = statSync(file, { throwIfNoEntry: false });
  if (!status?.isFile()) throw new UsageError(`${file}: there is no such file; make one with bench --json > ${file}`);
  if (status.size > MOST_BYTES) throw new UsageError(`${file}: it is larger than 64 MiB, so it is no report`);
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8").replace(BANNER, ""));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`${file}: it is no JSON (${error.message}); make one with bench --json > ${file}`);
  }
  const parsed = reportSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new UsageError(`${file}: it is no report of bench --json:\n${z.prettifyError(parsed.error)}`);
}

/** Lines by benchmark, in their order. */
export function grouped(lines: readonly Line[]): Map<string, Line[]> {
  const groups = new Map<string, Line[]>();
  for (const line of lines) {
    const own = groups.get(line.benchmark);
    if (own) own.push(line);
    else groups.set(line.benchmark, [line]);
  }
  return groups;
}
