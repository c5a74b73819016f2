/** Damaged checkpoints by the thousand: what a bit flip, a bad disk or an attacker makes of good ones. */
import { bytes, unzip, zip } from "./torch-files.ts";

/** A generator of whole numbers below `n`, the same for the same seed. */
export function dice(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

const extremes = [0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff];
/** Opcodes of pickle, allowed and not, to be met more often than by chance. */
const opcodes = bytes(
  "()]}lodtue.012cbRiaQhjqrsNKMJGXTU",
  Uint8Array.from({ length: 25 }, (_, i) => 0x80 + i),
);

/** `data` with one to three places changed. */
export function mutate(data: Uint8Array, roll: (n: number) => number): Uint8Array {
  let changed: Uint8Array = Uint8Array.from(data);
  for (let edits = 1 + roll(3); edits > 0; edits--) {
    const at = roll(changed.length + 1);
    const kind = roll(8);
    if (changed.length === 0) return changed;
    const place = Math.min(at, changed.length - 1);
    if (kind === 0) changed[place] = (changed[place] as number) ^ (1 << roll(8));
    else if (kind === 1) changed[place] = roll(256);
    else if (kind === 2) changed[place] = opcodes[roll(opcodes.length)] as number;
    else if (kind === 3)
      changed = bytes(changed.subarray(0, at), changed.subarray(Math.min(changed.length, at + 1 + roll(16))));
    else if (kind === 4)
      changed = bytes(changed.subarray(0, at), opcodes[roll(opcodes.length)] as number, changed.subarray(at));
    else if (kind === 5) {
      const from = roll(changed.length);
      changed = bytes(changed.subarray(0, at), changed.subarray(from, from + roll(64)), changed.subarray(at));
    } else if (kind === 6 && place + 4 <= changed.length) {
      new DataView(changed.buffer, changed.byteOffset + place, 4).setUint32(
        0,
        extremes[roll(extremes.length)] as number,
        true,
      );
    } else changed = changed.slice(0, at);
  }
  return changed;
}

/** Checkpoints like `file` with a changed pickle; the archive around it is sound. */
export async function* pickleMutants(file: Uint8Array, count: number, seed: number): AsyncGenerator<Uint8Array> {
  const entries = await unzip(file);
  const name = [...entries.keys()].find((key) => key.endsWith("/data.pkl")) as string;
  const pickle = entries.get(name) as Uint8Array;
  const roll = dice(seed);
  for (let i = 0; i < count; i++) yield zip(new Map(entries).set(name, mutate(pickle, roll)));
}

/** Checkpoints like `file` with a changed directory, end record or local header. */
export function* zipMutants(file: Uint8Array, count: number, seed: number): Generator<Uint8Array> {
  const roll = dice(seed);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const directoryAt = view.getUint32(file.length - 6, true);
  const headers: number[] = [];
  for (let at = 0; at < directoryAt; at++)
    if (at + 4 <= file.length && view.getUint32(at, true) === 0x04034b50) headers.push(at);
  for (let i = 0; i < count; i++) {
    if (roll(4) > 0) {
      yield bytes(file.subarray(0, directoryAt), mutate(file.subarray(directoryAt), roll));
      continue;
    }
    const at = headers[roll(headers.length)] as number;
    const changed = Uint8Array.from(file);
    changed[at + roll(46)] = roll(256);
    yield changed;
  }
}
