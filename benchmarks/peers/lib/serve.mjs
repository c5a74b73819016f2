/** A peer's side of the protocol that `benchmarks/src/peer-process.ts` describes, and the inputs that all peers share. */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

/** The file that answers go to. */
const ANSWERS = 3;

const answer = (content) => writeSync(ANSWERS, `${JSON.stringify(content)}\n`);

/**
 * Answers until the input ends.
 *
 * @param version  of the engine
 * @param works    by name: from its sizes to `run`, which does the work once, `sync`, which waits for all that was asked
 *   for (none where `run` waits), `result`, which gives the elements of the result, and `dispose`
 */
export async function serve(version, works) {
  let current;
  let fingerprint;
  const actions = {
    async prepare({ work, sizes }) {
      await current?.dispose?.();
      current = undefined;
      if (!Object.hasOwn(works, work)) return { fingerprint: null };
      current = await works[work](sizes);
      fingerprint = pick(await current.result());
      return { fingerprint };
    },
    async time({ repeats }) {
      const { run, sync = () => {} } = current;
      await sync();
      const from = performance.now();
      for (let i = 0; i < repeats; i++) await run();
      await sync();
      return { milliseconds: performance.now() - from };
    },
  };
  answer({ version });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const request = JSON.parse(line);
      answer(await actions[request.do](request));
    } catch (error) {
      answer({ error: String(error?.message ?? error).slice(0, 500) });
    }
  }
  process.exit(0);
}

const pick = (values) => {
  const last = values.length - 1;
  return [0, Math.min(1, last), values.length >> 1, last].map((i) => values[i]);
};

/** Numbers in [−½, ½): a hash of the place and the seed, the same as `noise` of the engine that is compared. */
export function noise(count, seed) {
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let x = (i + Math.imul(seed, 0x9e3779b9)) | 0;
    x ^= x >>> 16;
    x = Math.imul(x, 0x7feb352d);
    x ^= x >>> 15;
    x = Math.imul(x, 0x846ca68b);
    x ^= x >>> 16;
    numbers[i] = (x >>> 8) / 2 ** 24 - 0.5;
  }
  return numbers;
}

export const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** The ids and targets of the small transformer. */
export const tokens = (count, vocabulary, from = 0) =>
  Int32Array.from({ length: count }, (_, i) => ((i + from) * 7919 + 13) % vocabulary);

/** Parameters of the small transformer: seeds count up in this order. `matrix` and `ones` make tensors of a shape. */
export function transformerParameters({ width: D, vocabulary: V, layers, hidden: F }, matrix, ones) {
  let seed = 10;
  const next = (...shape) => matrix(shape, seed++);
  const [table, head, last] = [next(V, D), next(D, V), ones([D])];
  const blocks = Array.from({ length: layers }, () => ({
    q: next(D, D),
    k: next(D, D),
    v: next(D, D),
    o: next(D, D),
    gate: next(D, F),
    up: next(D, F),
    down: next(F, D),
    before: ones([D]),
    between: ones([D]),
  }));
  return { table, head, last, blocks };
}
