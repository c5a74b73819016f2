/** The changes that make a mutant: of a header's structure, of its text, of a file's bytes. */

import { fileDTypeBits, fileDTypes } from "../../src/safetensors/file-dtype.ts";
import {
  anyTree,
  array,
  become,
  copy,
  escapeSome,
  hardNumbers,
  hardStrings,
  leaf,
  nodes,
  object,
  type Tree,
} from "./json-tree.ts";
import type { Random } from "./random.ts";

type ObjectTree = Extract<Tree, { kind: "object" }>;
type ArrayTree = Extract<Tree, { kind: "array" }>;
type Edit = (header: Tree, random: Random) => void;

const isObject = (tree: Tree | undefined): tree is ObjectTree => tree?.kind === "object";
const isArray = (tree: Tree | undefined): tree is ArrayTree => tree?.kind === "array";
const isLeaf = (tree: Tree): tree is Extract<Tree, { kind: "leaf" }> => tree.kind === "leaf";

/** The tensors of a header that still are objects. */
function tensors(header: Tree): ObjectTree[] {
  if (!isObject(header)) return [];
  return header.members
    .filter(([key]) => key !== '"__metadata__"')
    .flatMap(([, value]) => (isObject(value) ? [value] : []));
}

const field = (tensor: ObjectTree, name: string): Tree | undefined =>
  tensor.members.find(([key]) => key === `"${name}"`)?.[1];

/** An edit of one tensor, which does nothing in a file without. */
const ofTensor =
  (edit: (tensor: ObjectTree, random: Random, header: ObjectTree) => void): Edit =>
  (header, random) => {
    const found = tensors(header);
    if (found.length > 0 && isObject(header)) edit(random.pick(found), random, header);
  };

const ofShape = (edit: (shape: ArrayTree, random: Random) => void): Edit =>
  ofTensor((tensor, random) => {
    const shape = field(tensor, "shape");
    if (isArray(shape)) edit(shape, random);
  });

const ofOffsets = (edit: (offsets: ArrayTree, random: Random, header: ObjectTree) => void): Edit =>
  ofTensor((tensor, random, header) => {
    const offsets = field(tensor, "data_offsets");
    if (isArray(offsets)) edit(offsets, random, header);
  });

function shuffle<T>(items: T[], random: Random): void {
  for (let last = items.length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    [items[last], items[other]] = [items[other] as T, items[last] as T];
  }
}

const add = (tree: Tree | undefined, change: number): Tree =>
  tree && isLeaf(tree) && /^\d{1,9}$/.test(tree.text) ? leaf(Math.max(0, Number(tree.text) + change)) : leaf(0);

const someLeaf = (header: Tree, wanted: RegExp, random: Random): Tree | undefined => {
  const found = nodes(header).filter((node) => isLeaf(node) && wanted.test(node.text));
  return found.length > 0 ? random.pick(found) : undefined;
};

/** Edits that keep a good file good, for the reference if not for us. */
const kind: readonly Edit[] = [
  (header, random) => isObject(header) && shuffle(header.members, random),
  ofTensor((tensor, random) => shuffle(tensor.members, random)),
  ofTensor((tensor, random) =>
    tensor.members.splice(random.below(4), 0, [`"extra${random.below(3)}"`, anyTree(random, 2)]),
  ),
  ofTensor((tensor) => {
    const parts = ["dtype", "shape", "data_offsets"].map((name) => field(tensor, name));
    if (parts.every((part) => part !== undefined)) become(tensor, array(parts));
  }),
  ofTensor((tensor) => {
    const dtype = field(tensor, "dtype");
    if (dtype && isLeaf(dtype)) become(dtype, object([[dtype.text, leaf("null")]]));
  }),
  ofTensor((tensor, random) => {
    const dtype = field(tensor, "dtype");
    if (!dtype || !isLeaf(dtype)) return;
    const bits = (text: string) => fileDTypeBits[text as keyof typeof fileDTypeBits];
    const alike = fileDTypes.filter((other) => bits(other) === bits(dtype.text.slice(1, -1)));
    if (alike.length > 0) become(dtype, leaf(`"${random.pick(alike)}"`));
  }),
  ofShape((shape, random) => shuffle(shape.items, random)),
  ofShape((shape, random) => shape.items.splice(random.below(shape.items.length + 1), 0, leaf(1))),
  (header, random) => {
    for (const node of nodes(header)) if (isLeaf(node)) node.text = escapeSome(node.text, random);
  },
  (header, random) => {
    if (isObject(header)) for (const member of header.members) member[0] = escapeSome(member[0], random);
  },
  ofTensor((tensor, random) => {
    for (const member of tensor.members) member[0] = escapeSome(member[0], random);
  }),
  (header, random) => {
    if (!isObject(header)) return;
    const metadata = object([['"format"', leaf(random.pick(hardStrings))]]);
    header.members.splice(random.below(header.members.length + 1), 0, ['"__metadata__"', metadata]);
  },
  // A tensor without elements, at the border of another, with a dimension that may be anything.
  ofOffsets((offsets, random, header) => {
    const at = random.pick(offsets.items.length > 0 ? offsets.items : [leaf(0)]);
    const shape = [leaf(random.pick(["0", "0", ...hardNumbers])), leaf(random.pick(hardNumbers)), leaf(0)];
    if (random.chance(50)) shuffle(shape, random);
    const empty = object([
      ['"dtype"', leaf(`"${random.pick(fileDTypes)}"`)],
      ['"shape"', array(shape.slice(random.below(3)))],
      ['"data_offsets"', array([at, at])],
    ]);
    header.members.splice(random.below(header.members.length + 1), 0, [`"empty${random.below(9)}"`, copy(empty)]);
  }),
  (header, random) => {
    if (isObject(header) && header.members.length > 0) random.pick(header.members)[0] = random.pick(hardStrings);
  },
];

/** Edits after which most files are bad. */
const unkind: readonly Edit[] = [
  (header, random) => {
    const number = someLeaf(header, /^\d/, random);
    if (number) become(number, leaf(random.pick(hardNumbers)));
  },
  (header, random) => {
    const number = someLeaf(header, /^\d+$/, random);
    if (number) become(number, add(number, random.pick([-8, -4, -2, -1, 1, 2, 4, 8])));
  },
  (header, random) => {
    const number = someLeaf(header, /^\d+$/, random);
    if (number && isLeaf(number))
      number.text += random.pick([".0", "e0", "e1", ".", "0", " 0", "e-0", "E+0", "n", "u64"]);
  },
  (header, random) => {
    const [a, b] = [someLeaf(header, /^\d/, random), someLeaf(header, /^\d/, random)];
    if (!a || !b) return;
    const before = copy(a);
    become(a, b);
    become(b, before);
  },
  ofOffsets((offsets) => offsets.items.reverse()),
  ofOffsets((offsets, random) => {
    const change = random.pick([-4, -1, 1, 4]);
    offsets.items = offsets.items.map((item) => add(item, change));
  }),
  ofOffsets((offsets, random) => offsets.items.splice(random.below(3), random.below(2), leaf(random.below(20)))),
  // Two tensors change places; a file of equal sizes stays good.
  (header, random) => {
    const found = tensors(header);
    if (found.length < 2) return;
    const [a, b] = [field(random.pick(found), "data_offsets"), field(random.pick(found), "data_offsets")];
    if (!a || !b) return;
    const before = copy(a);
    become(a, b);
    become(b, before);
  },
  ofTensor((tensor, random) => {
    const dtype = field(tensor, "dtype");
    if (dtype)
      become(
        dtype,
        leaf(random.pick([...fileDTypes.map((name) => `"${name}"`), '"F128"', '"f32"', '""', '"F8"', "32"])),
      );
  }),
  ofTensor((tensor, random) => tensor.members.splice(random.below(tensor.members.length), 1)),
  ofTensor((tensor, random) => {
    const member = random.pick(tensor.members) as [string, Tree] | undefined;
    if (member) tensor.members.push([member[0], copy(member[1])]);
  }),
  (header, random) => {
    if (!isObject(header) || header.members.length === 0) return;
    const [key, value] = random.pick(header.members);
    const twice: [string, Tree] = [key, copy(value)];
    if (random.chance(50)) twice[1] = anyTree(random, 1);
    header.members.splice(random.below(header.members.length + 1), 0, twice);
  },
  (header, random) => isObject(header) && header.members.splice(random.below(header.members.length + 1), 1),
  (header, random) => become(random.pick(nodes(header)), anyTree(random)),
  (header, random) => become(random.pick(nodes(header)), random.pick(nodes(header))),
  (header, random) => {
    const metadata = anyTree(random, 2);
    if (isObject(header))
      header.members.splice(random.below(header.members.length + 1), 0, ['"__metadata__"', metadata]);
  },
  ofShape((shape, random) => shape.items.push(leaf(random.pick(hardNumbers)))),
];

/** Every edit of the structure, the kind ones twice, so that about half of all mutants stay good. */
export const edits: readonly Edit[] = [...kind, ...kind, ...unkind];

const snippets = [
  ..."{ } [ ] , : \" \\ 0 1 - . e null true // /**/ # ' ; , [] {} \\u0041 \\ud800 \\n 1e3 .0".split(" "),
  " ",
  "\n",
  "\t",
  "\r",
  "\f",
  "\v",
  "\0",
  "\u00a0",
  "\u2028",
  "\ufeff",
  "\u007f",
  "é",
  "😀",
];

/** One change of a header's text: a token or character put in, taken out, doubled or moved. */
export function editText(text: string, random: Random): string {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[-+.\w]+|\s+|[^]/g) ?? [];
  const at = random.below(tokens.length + 1);
  const token = tokens[at] ?? "";
  switch (random.below(8)) {
    case 0:
      tokens.splice(at, 0, random.pick(snippets));
      break;
    case 1:
      tokens.splice(at, 1);
      break;
    case 2:
      tokens.splice(at, 0, token);
      break;
    case 3:
      tokens[at] = random.pick(snippets);
      break;
    case 4:
      tokens.splice(at, 0, random.pick([" ", "\n", "\t", "\r", "  "]));
      break;
    case 5: {
      const inside = random.below(token.length + 1);
      tokens[at] = token.slice(0, inside) + random.pick(snippets) + token.slice(inside);
      break;
    }
    case 6:
      tokens[at] = token.startsWith('"') ? escapeSome(token, random) : random.pick(hardNumbers);
      break;
    default: {
      const other = random.below(tokens.length + 1);
      [tokens[at], tokens[other]] = [tokens[other] ?? "", token];
    }
  }
  return tokens.join("");
}

const hardLengths = [
  0n,
  1n,
  7n,
  8n,
  100_000_000n,
  100_000_001n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** One change of a file's bytes. */
export function editBytes(file: Uint8Array, random: Random): Uint8Array {
  const changed = file.slice();
  const view = new DataView(changed.buffer);
  const at = random.below(file.length || 1);
  switch (random.below(9)) {
    case 0:
    case 1:
      changed[at] = (changed[at] ?? 0) ^ (1 << random.below(8));
      return changed;
    case 2:
      changed[at] = random.below(256);
      return changed;
    case 3:
      return file.slice(0, at);
    case 4:
      return Uint8Array.of(...file.slice(0, at), ...file.slice(at + 1));
    case 5:
      return Uint8Array.of(...file.slice(0, at), random.below(256), ...file.slice(at));
    case 6:
      if (file.length >= 8) view.setBigUint64(0, random.pick(hardLengths), true);
      return changed;
    case 7:
      if (file.length >= 8)
        view.setBigUint64(0, BigInt.asUintN(64, view.getBigUint64(0, true) + random.pick([-8n, -1n, 1n, 8n])), true);
      return changed;
    default:
      return Uint8Array.of(...file, ...Array.from({ length: 1 + random.below(4) }, () => random.below(256)));
  }
}
