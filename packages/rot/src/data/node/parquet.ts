/**
 * Parquet files, read by a library in a thread of its own: a damaged page can send any parser round in circles or after
 * gigabytes, and a thread can be stopped.
 */
import { once } from "node:events";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { DatasetError } from "../sample.ts";

/** Some rows, and the number of the first, counted from 0. */
export interface ParquetPart {
  readonly begin: number;
  readonly rows: readonly Record<string, unknown>[];
}

const ROWS_AT_ONCE = 4096;
const MEMORY_MEBIBYTES = 2048;
/** Real files give thousands of rows in a fraction of it. */
const SILENCE_MILLISECONDS = 20_000;

/** The thread: plain JavaScript, so that it runs alike from sources and from the build. It reads a part when it is asked to. */
const thread = `
  const { once } = require("node:events");
  const { parentPort, workerData } = require("node:worker_threads");
  const { path, rowsAtOnce, hyparquet, compressors } = workerData;
  (async () => {
    const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import(hyparquet);
    const options = { file: await asyncBufferFromFile(path), compressors: (await import(compressors)).compressors };
    const metadata = await parquetMetadataAsync(options.file);
    const count = Number(metadata.num_rows);
    if (!Number.isSafeInteger(count) || count < 0) throw new Error("it says that it has " + count + " rows");
    for (let begin = 0; begin < count; begin += rowsAtOnce) {
      await once(parentPort, "message");
      const rowEnd = Math.min(count, begin + rowsAtOnce);
      const rows = await parquetReadObjects({ ...options, metadata, rowStart: begin, rowEnd });
      if (rows.length !== rowEnd - begin) throw new Error("it promises " + count + " rows and ends before");
      parentPort.postMessage({ begin, rows });
    }
    await once(parentPort, "message");
    parentPort.postMessage({ done: true });
  })().catch((error) => parentPort.postMessage({ error: String(error && error.message).slice(0, 200) }));
`;

/**
 * The rows of a Parquet file, in parts.
 *
 * @param silence  milliseconds without a part after which the thread is stopped
 * @throws {DatasetError} when it is damaged, needs more than 2 GiB to unpack, or leads the reader in circles
 */
export async function* readParquet(path: string, silence = SILENCE_MILLISECONDS): AsyncGenerator<ParquetPart> {
  const resolve = (name: string): string => pathToFileURL(createRequire(import.meta.url).resolve(name)).href;
  const worker = new Worker(thread, {
    eval: true,
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: MEMORY_MEBIBYTES },
    workerData: {
      path,
      rowsAtOnce: ROWS_AT_ONCE,
      hyparquet: resolve("hyparquet"),
      compressors: resolve("hyparquet-compressors"),
    },
  });
  worker.on("error", () => {}); // after a part that came too late nobody waits for it any more
  try {
    for (;;) {
      worker.postMessage("next");
      const message = await reply(worker, path, silence);
      if ("done" in message) return;
      yield message;
    }
  } finally {
    await worker.terminate();
  }
}

/** What the thread says next. It also ends where its memory does. */
async function reply(worker: Worker, path: string, silence: number): Promise<ParquetPart | { readonly done: true }> {
  const [message] = (await once(worker, "message", { signal: AbortSignal.timeout(silence) }).catch((error: Error) => {
    if (error.name === "AbortError") throw new DatasetError(`${path}: reading it stands still; the file is damaged`);
    throw new DatasetError(`${path} cannot be read as Parquet: ${error.message}`);
  })) as [ParquetPart | { readonly done: true } | { readonly error: string }];
  if ("error" in message) throw new DatasetError(`${path} cannot be read as Parquet: ${message.error}`);
  return message;
}
