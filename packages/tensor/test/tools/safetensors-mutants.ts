/**
 * Files that are, or nearly are, safetensors: random good ones, each changed at random in its structure, its text and
 * its bytes. What they hold depends on the seed alone, so that the reference's verdicts can be kept beside the tests.
 */

import { type FileDType, fileDTypeBits, fileDTypes } from "../../src/safetensors/file-dtype.ts";
import { anyTree, array, hardStrings, leaf, object, print, type Spacing, type Tree } from "./json-tree.ts";
import { type Random, seeded } from "./random.ts";
import { editBytes, editText, edits } from "./safetensors-edits.ts";

/** The seed and number of the mutants that `test/data/safetensors/verdicts.bin` speaks of. */
export const seed = 20_240_607;
export const count = 100_000;

/** Yields `count` files; each depends on `seed` and its place alone. */
export function* mutants(): Generator<Uint8Array> {
  for (let index = 0; index < count; index++) yield mutant(seeded(seed + index * 7919));
}

function mutant(random: Random): Uint8Array {
  const { header, dataSize } = goodFile(random);
  const spacing: Spacing = random.chance(70)
    ? { between: "", after: "" }
    : { between: random.pick(["", " ", "\n  ", "\t"]), after: random.pick(["", " ", "\r\n"]) };

  const rounds = random.pick([0, 1, 1, 1, 1, 2, 2, 3]);
  let text: string | undefined;
  let extraBytes = 0;
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    const kind = random.below(100);
    if (kind < 72 && text === undefined) random.pick(edits)(header, random);
    else if (kind < 86) text = editText(text ?? print(header, spacing), random);
    else if (kind < 94) bytes++;
    else extraBytes = random.pick([-1, 1, 4, -4, 8, 100]);
  }
  text ??= print(header, spacing);
  if (random.chance(20)) text = random.pick([" ", "\n", "\t ", "        "]) + text;
  if (random.chance(50)) text += " ".repeat((8 - (text.length % 8)) % 8);
  if (random.chance(2)) text += random.pick(["\0", "\0\0\0", "x", "{}", ",", "\u00a0", "\f"]);
  if (random.chance(1)) text = random.pick(["\ufeff", "\u00a0", "[", "\0"]) + text;

  let file = assemble(text, Math.max(0, dataSize + extraBytes));
  for (let round = 0; round < bytes; round++) file = editBytes(file, random);
  return file;
}

/** Length, header and zeros: no verdict depends on the data itself. */
function assemble(text: string, dataSize: number): Uint8Array {
  const header = new TextEncoder().encode(text);
  const file = new Uint8Array(8 + header.length + dataSize);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  return file;
}

/** A file that every reader takes: up to five tensors of any dtype, with and without metadata and further fields. */
function goodFile(random: Random): { header: Tree; dataSize: number } {
  const members: [string, Tree][] = [];
  let dataSize = 0;
  const total = random.pick([0, 1, 1, 2, 2, 3, 4, 5]);
  for (let index = 0; index < total; index++) {
    const dtype = random.chance(50) ? random.pick(["F32", "F16", "BF16", "I64"] as const) : random.pick(fileDTypes);
    const shape = goodShape(dtype, random);
    const size = (shape.reduce((a, b) => a * b, 1) * fileDTypeBits[dtype]) / 8;
    const tensor = object([
      ['"dtype"', leaf(`"${dtype}"`)],
      ['"shape"', array(shape.map(leaf))],
      ['"data_offsets"', array([leaf(dataSize), leaf(dataSize + size)])],
    ]);
    dataSize += size;
    if (random.chance(8) && tensor.kind === "object") tensor.members.push(['"note"', anyTree(random, 2)]);
    members.push([`"${goodName(random)}${index || ""}"`, tensor]);
  }
  if (random.chance(35)) members.unshift(['"__metadata__"', goodMetadata(random)]);
  return { header: object(members), dataSize };
}

function goodShape(dtype: FileDType, random: Random): number[] {
  const shape = Array.from({ length: random.pick([0, 1, 1, 2, 2, 3]) }, () => random.pick([0, 1, 1, 2, 3, 4, 5]));
  // Whole bytes for 4-bit and 6-bit elements.
  return fileDTypeBits[dtype] < 8 ? [...shape, 4] : shape;
}

const goodName = (random: Random): string =>
  random.pick(["", "a", "model.layers.0.self_attn.q_proj.weight", "../../x", "__proto__", "é", "😀", "weight", "b c"]);

function goodMetadata(random: Random): Tree {
  if (random.chance(15)) return leaf("null");
  return object(
    Array.from({ length: random.below(4) }, (_, index) => [
      `"key${index}"`,
      leaf(random.chance(10) ? random.pick(hardStrings) : '"pt"'),
    ]),
  );
}
