/** The tables of a font file that drawing needs, checked before any parser sees them and packed into a small font. */
import { FontError } from "./error.ts";
import type { ProgramTables } from "./hinting/hinter.ts";

/** Larger font files are refused. */
const maxFontBytes = 64 * 1024 * 1024;

/** More than all of Unicode in one map of characters is an attack. */
const maxMappings = 0x110000;

const required = ["cmap", "head", "hhea", "hmtx", "maxp"];

/** A font in the few tables that drawing needs. */
export interface PackedFont {
  readonly file: ArrayBuffer;
  /** What hints its outlines; undefined where it has no programs. */
  readonly programs: ProgramTables | undefined;
}

/**
 * Copies what outlines, advances, characters and `kern` need into a new font file with one map of characters.
 *
 * Everything whose size a parser would take on trust is checked against the file: tables, glyph offsets, ranges of
 * characters. Layout tables are left out: HarfBuzz reads those from the original.
 *
 * @param name  what errors call the font: its path
 * @throws {FontError} when the file is no TrueType or OpenType font, or what it says does not fit in it
 * @see https://learn.microsoft.com/en-us/typography/opentype/spec/otff
 */
export function packFont(bytes: Uint8Array, name: string): PackedFont {
  const fail = (problem: string): never => {
    throw new FontError(`${name}: ${problem}`);
  };
  if (bytes.length > maxFontBytes) fail(`${bytes.length} bytes; a font may have ${maxFontBytes}`);
  const tables = readTables(bytes, fail);
  for (const tag of required) if (!tables.has(tag)) fail(`no '${tag}' table; is it a TrueType or OpenType font?`);
  const outlines = tables.has("glyf") && tables.has("loca") ? ["glyf", "loca"] : ["CFF "];
  if (!tables.has(outlines[0]!))
    fail("no outlines ('glyf' and 'loca', or 'CFF '); bitmap and variable CFF2 fonts are not drawn");
  const view = (tag: string, least: number): DataView => {
    const table = tables.get(tag)!;
    if (table.length < least) fail(`table '${tag}' has ${table.length} bytes; it needs ${least}`);
    return new DataView(table.buffer, table.byteOffset, table.length);
  };
  const unitsPerEm = view("head", 54).getUint16(18);
  if (unitsPerEm < 16 || unitsPerEm > 16384) fail(`${unitsPerEm} units per em; 16 to 16384 are allowed`);
  const glyphs = view("maxp", 6).getUint16(4);
  const metrics = view("hhea", 36).getUint16(34);
  if (glyphs === 0) fail("it has no glyphs");
  if (metrics === 0 || metrics > glyphs) fail(`${metrics} advances for ${glyphs} glyphs`);
  view("hmtx", 2 * metrics + 2 * glyphs);
  if (outlines[1])
    checkOffsets(view("loca", 0), view("head", 54).getInt16(50) !== 0, glyphs, tables.get("glyf")!.length, fail);

  const kept = new Map<string, Uint8Array>();
  for (const tag of [...required, ...outlines]) kept.set(tag, tables.get(tag)!);
  kept.set("cmap", onlyMap(view("cmap", 4), fail));
  // Parsers want these two; ours are empty: no names of the font, and none of its glyphs (version 3).
  kept.set("name", Uint8Array.of(0, 0, 0, 0, 0, 6));
  kept.set("post", Uint8Array.of(0, 3, 0, 0, ...new Uint8Array(28)));
  const kern = tables.get("kern");
  if (kern && isPlainKern(kern)) kept.set("kern", kern);
  return { file: write(outlines[1] ? 0x00010000 : 0x4f54544f, kept), programs: readPrograms(tables) };
}

function readPrograms(tables: ReadonlyMap<string, Uint8Array>): ProgramTables | undefined {
  const maxp = tables.get("maxp")!;
  const prep = tables.get("prep");
  if (!tables.has("glyf") || !prep || maxp.length < 32) return undefined;
  const none = new Uint8Array(0);
  const limits = new DataView(maxp.buffer, maxp.byteOffset, maxp.length);
  const cvt = tables.get("cvt ") ?? none;
  const values = new DataView(cvt.buffer, cvt.byteOffset, cvt.length);
  return {
    fpgm: tables.get("fpgm") ?? none,
    prep,
    cvt: Int16Array.from({ length: Math.min(cvt.length >> 1, 0xffff) }, (_, i) => values.getInt16(2 * i)),
    maxTwilightPoints: limits.getUint16(16),
    maxStorage: limits.getUint16(18),
  };
}

type Fail = (problem: string) => never;

function readTables(bytes: Uint8Array, fail: Fail): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 12) fail(`${bytes.length} bytes are no font`);
  const version = view.getUint32(0);
  const tagAt = (at: number): string => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (version !== 0x00010000 && tagAt(0) !== "true" && tagAt(0) !== "OTTO") {
    const kind = { ttcf: "a font collection", wOFF: "WOFF", wOF2: "WOFF2" }[tagAt(0)];
    fail(
      kind ? `it is ${kind}; unpack it into a .ttf or .otf first` : "it does not begin as a TrueType or OpenType font",
    );
  }
  const count = view.getUint16(4);
  if (12 + 16 * count > bytes.length) fail(`its directory names ${count} tables and ends beyond the file`);
  const tables = new Map<string, Uint8Array>();
  for (let i = 0; i < count; i++) {
    const at = 12 + 16 * i;
    const tag = tagAt(at);
    const [offset, length] = [view.getUint32(at + 8), view.getUint32(at + 12)];
    if (offset + length > bytes.length) fail(`table '${tag}' ends at byte ${offset + length} of ${bytes.length}`);
    if (tables.has(tag)) fail(`table '${tag}' comes twice`);
    tables.set(tag, bytes.subarray(offset, offset + length));
  }
  return tables;
}

function checkOffsets(loca: DataView, long: boolean, glyphs: number, end: number, fail: Fail): void {
  const size = long ? 4 : 2;
  if (loca.byteLength < size * (glyphs + 1)) fail(`table 'loca' has ${loca.byteLength} bytes for ${glyphs} glyphs`);
  let before = 0;
  for (let i = 0; i <= glyphs; i++) {
    const offset = long ? loca.getUint32(4 * i) : 2 * loca.getUint16(2 * i);
    if (offset < before || offset > end) fail(`the outline of glyph ${i} begins at byte ${offset} of ${end}`);
    before = offset;
  }
}

/** A `cmap` with the best Unicode map of the font and no other. */
function onlyMap(cmap: DataView, fail: Fail): Uint8Array {
  const count = cmap.getUint16(2);
  if (4 + 8 * count > cmap.byteLength) fail(`table 'cmap' names ${count} maps and is too short for them`);
  let best = { rank: 0, offset: 0, record: 0 };
  for (let i = 0; i < count; i++) {
    const record = 4 + 8 * i;
    const [platform, encoding] = [cmap.getUint16(record), cmap.getUint16(record + 2)];
    const offset = cmap.getUint32(record + 4);
    if (offset + 16 > cmap.byteLength) continue;
    const format = cmap.getUint16(offset);
    const unicode = platform === 0 || (platform === 3 && encoding <= 10);
    const rank = !unicode ? 0 : format === 12 || format === 13 ? 3 : format === 4 ? 2 : 0;
    if (rank > best.rank) best = { rank, offset, record };
  }
  if (best.rank === 0) fail("table 'cmap' has no Unicode map of format 4, 12 or 13");
  const long = best.rank === 3;
  const length = long ? cmap.getUint32(best.offset + 4) : cmap.getUint16(best.offset + 2);
  if (best.offset + length > cmap.byteLength) fail("table 'cmap': its map ends beyond the table");
  checkRanges(new DataView(cmap.buffer, cmap.byteOffset + best.offset, length), long, fail);
  const table = new Uint8Array(12 + length);
  const view = new DataView(table.buffer);
  view.setUint16(2, 1);
  view.setUint16(4, 3);
  view.setUint16(6, long ? 10 : 1);
  view.setUint32(8, 12);
  table.set(new Uint8Array(cmap.buffer, cmap.byteOffset + best.offset, length), 12);
  return table;
}

/** The ranges of a map may hold as many characters as there are, together. */
function checkRanges(map: DataView, long: boolean, fail: Fail): void {
  const length = map.byteLength;
  const ranges = length < 16 ? 0 : long ? map.getUint32(12) : map.getUint16(6) >> 1;
  if (length < 16 + (long ? 12 : 8) * ranges) fail(`table 'cmap': ${ranges} ranges in ${length} bytes`);
  let total = 0;
  for (let i = 0; i < ranges; i++) {
    const start = long ? map.getUint32(16 + 12 * i) : map.getUint16(16 + 2 * (ranges + i));
    const end = long ? map.getUint32(20 + 12 * i) : map.getUint16(14 + 2 * i);
    if (end > 0x10ffff) fail(`table 'cmap': character ${end} is beyond Unicode`);
    total += Math.max(0, end - start + 1);
    if (total > maxMappings) fail("table 'cmap' maps more characters than there are");
  }
}

/** Whether this is the one kind of `kern` that FreeType and we read: version 0 with pairs first. */
function isPlainKern(kern: Uint8Array): boolean {
  if (kern.length < 18) return false;
  const view = new DataView(kern.buffer, kern.byteOffset, kern.length);
  return (
    view.getUint16(0) === 0 &&
    view.getUint16(2) > 0 &&
    view.getUint16(4) === 0 &&
    18 + 6 * view.getUint16(10) <= kern.length
  );
}

function write(version: number, tables: ReadonlyMap<string, Uint8Array>): ArrayBuffer {
  const padded = (length: number): number => (length + 3) & ~3;
  let end = 12 + 16 * tables.size;
  const total = [...tables.values()].reduce((sum, table) => sum + padded(table.length), end);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  view.setUint32(0, version);
  view.setUint16(4, tables.size);
  let at = 12;
  for (const [tag, table] of tables) {
    for (let i = 0; i < 4; i++) out[at + i] = tag.charCodeAt(i);
    view.setUint32(at + 8, end);
    view.setUint32(at + 12, table.length);
    out.set(table, end);
    end += padded(table.length);
    at += 16;
  }
  return out.buffer;
}
