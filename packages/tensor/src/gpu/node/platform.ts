/** WebGPU in Node: Dawn, and an adapter for it on every machine. */
import type { AdapterRequest, FoundAdapter, Platform } from "../adapter.ts";
import { Cache } from "./cache.ts";
import { loadDawn } from "./dawn.ts";
import { collectGarbage } from "./collect.ts";
import { embeddedSource } from "./embedded.ts";
import { readEnvironment } from "./environment.ts";
import { fetchedSource } from "./lavapipe.ts";
import { rest } from "./rest.ts";
import { chooseAdapter } from "./source.ts";
import { systemSource } from "./system.ts";
import { tuningStore } from "./tunings.ts";

/** Node: hardware, else the system's software Vulkan, else a fetched lavapipe, else the embedded SwiftShader. */
export const platform: Platform = {
  get wishes() {
    const { adapter, download, debug, tune } = readEnvironment();
    return { adapter, download, debug, tune };
  },
  get tunings() {
    return tuningStore(new Cache(readEnvironment().cache));
  },
  notice: (line) => void process.stderr.write(`${line}\n`),
  rest,
  collectGarbage,
  // One after the other: while one looks, the environment of the whole process says which drivers there are.
  requestAdapter: (request) => {
    const answer = last.then(() => requestAdapter(request));
    last = answer.catch(() => undefined);
    return answer;
  },
};

let last: Promise<unknown> = Promise.resolve();

async function requestAdapter({ adapter, download, notice }: AdapterRequest): Promise<FoundAdapter> {
  const environment = readEnvironment();
  await loadDawn();
  const cache = new Cache(environment.cache);
  const refusal = environment.download ? "downloads are switched off" : "ROT_NO_DOWNLOAD is 1";
  const choice = await chooseAdapter(adapter, {
    system: systemSource(cache, environment.drivers),
    fetched: fetchedSource(cache, (download ?? environment.download) ? undefined : refusal, notice),
    embedded: embeddedSource(cache),
  });
  notice(choice.notice);
  return choice.found;
}
