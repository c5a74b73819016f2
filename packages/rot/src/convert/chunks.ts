/** Bytes that come in chunks. */

/** All of a stream in one piece of memory: for what is short. */
export async function readAll(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Takes as many bytes of a stream as are asked for, however they are dealt out to chunks. Close it. */
export class Taker {
  readonly #stream: AsyncIterator<Uint8Array>;
  #rest = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#stream = stream[Symbol.asyncIterator]();
  }

  /** The next so many bytes; null when the stream ends before. */
  async take(length: number): Promise<Buffer | null> {
    while (this.#rest.length < length) {
      const { value, done } = await this.#stream.next();
      if (done) return null;
      this.#rest = Buffer.concat([this.#rest, value]);
    }
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }

  async close(): Promise<void> {
    await this.#stream.return?.();
  }
}

/** Whether two streams of as many bytes hold the same. */
export async function sameBytes(a: AsyncIterable<Uint8Array>, b: AsyncIterable<Uint8Array>): Promise<boolean> {
  const other = new Taker(b);
  try {
    for await (const chunk of a) {
      const part = await other.take(chunk.length);
      if (!part || Buffer.compare(part, chunk) !== 0) return false;
    }
    return true;
  } finally {
    await other.close();
  }
}
