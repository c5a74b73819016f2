/** Where bytes come from: memory, a Blob, or (in `@rot/tensor/safetensors/node`) a file. */

/** Random access to bytes. */
export interface ByteSource {
  /** Bytes in all. */
  readonly size: number;
  /**
   * Bytes `begin` (inclusive) to `end` (exclusive), 0 ≤ begin ≤ end ≤ size, all of them. The result may be a view of
   * the source: do not write to it. Ranges beyond 2³¹ bytes are the source's own matter to cut.
   */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/** The most that a file or Blob is asked for at once: both have limits near 2³¹. */
export const longestPiece = 2 ** 30;

/** Cuts `begin` to `end` into ranges of at most `longest` bytes, in order. */
export function* pieces(begin: number, end: number, longest: number = longestPiece): Generator<[number, number]> {
  for (let at = begin; at < end; at += longest) yield [at, Math.min(at + longest, end)];
}

/** A source over memory. Reads are views: nothing is copied. */
export function fromBytes(data: Uint8Array | ArrayBuffer): ByteSource {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  return {
    size: bytes.length,
    read: async (begin, end) => bytes.subarray(begin, end),
  };
}

/** A source over a Blob or File, as a browser's file input gives. */
export function fromBlob(blob: Blob): ByteSource {
  const slice = async (begin: number, end: number) => new Uint8Array(await blob.slice(begin, end).arrayBuffer());
  return {
    size: blob.size,
    async read(begin, end) {
      if (end - begin <= longestPiece) return slice(begin, end);
      const bytes = new Uint8Array(end - begin);
      for (const [from, to] of pieces(begin, end)) bytes.set(await slice(from, to), from - begin);
      return bytes;
    },
  };
}
