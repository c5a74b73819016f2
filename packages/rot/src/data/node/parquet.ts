/**
 * Parquet files, read by a library in a thread of its own: a damaged page can send any parser round in circles or after
 * gigabytes, and a thread can be stopped.
 */
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

/** The thread: plain JavaScript, so that it runs alike from sources and from the build. */
const thread = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { path, rowsAtOnce, hyparquet, compressors } = workerData;
  (async () => {
    const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import(hyparquet);
    const options = { file: await asyncBufferFromFile(path), compressors: (await import(compressors)).compressors };
    const metadata = await parquetMetadataAsync(options.file);
    const count = Number(metadata.num_rows);
    if (!Number.isSafeInteger(count) || count < 0) throw new Error("it says that it has " + count + " rows");
    for (let begin = 0; begin < count; begin += rowsAtOnce) {
      const rowEnd = Math.min(count, begin + rowsAtOnce);
      const rows = await parquetReadObjects({ ...options, metadata, rowStart: begin, rowEnd });
      if (rows.length !== rowEnd - begin) throw new Error("it promises " + count + " rows and ends before");
      parentPort.postMessage({ begin, rows });
    }
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
  try {
    for (;;) {
      const message = await next(worker, path, silence);
      if ("done" in message) return;
      yield message;
    }
  } finally {
    await worker.terminate();
  }
}

type Message = ParquetPart | { readonly done: true };

const waiting = new WeakMap<Worker, { messages: (Message | DatasetError)[]; wake: () => void }>();

/** The next message of the thread, in its order. */
async function next(worker: Worker, path: string, silence: number): Promise<Message> {
  const inbox = waiting.get(worker) ?? listen(worker, path);
  if (inbox.messages.length === 0) {
    const timer = setTimeout(() => {
      inbox.messages.push(new DatasetError(`${path}: reading it stands still; the file is damaged`));
      inbox.wake();
    }, silence);
    await new Promise<void>((resolve) => {
      inbox.wake = resolve;
    });
    clearTimeout(timer);
  }
  const message = inbox.messages.shift() as Message | DatasetError;
  if (message instanceof DatasetError) throw message;
  return message;
}

function listen(worker: Worker, path: string) {
  const inbox = { messages: [] as (Message | DatasetError)[], wake: () => {} };
  const put = (message: Message | DatasetError): void => {
    inbox.messages.push(message);
    inbox.wake();
  };
  worker.on("message", (message: Message | { error: string }) => {
    put("error" in message ? new DatasetError(`${path} cannot be read as Parquet: ${message.error}`) : message);
  });
  worker.on("error", (error) => {
    put(new DatasetError(`${path} cannot be read as Parquet: ${error.message}`)); // also where its memory ends
  });
  waiting.set(worker, inbox);
  return inbox;
}
