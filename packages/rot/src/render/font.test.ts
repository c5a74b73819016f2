import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, test, vi } from "vitest";
import { FontError } from "./error.ts";
import { Font } from "./font.ts";
import { rasterize } from "./raster.ts";
import { createRenderer } from "./strip.ts";

const require = createRequire(import.meta.url);
const sans = new Uint8Array(readFileSync(require.resolve("dejavu-fonts-ttf/ttf/DejaVuSans.ttf")));

interface Table {
  readonly tag: string;
  readonly data: Uint8Array;
}

function tablesOf(font: Uint8Array): Table[] {
  const view = new DataView(font.buffer, font.byteOffset, font.length);
  return Array.from({ length: view.getUint16(4) }, (_, i) => {
    const at = 12 + 16 * i;
    const start = view.getUint32(at + 8);
    return {
      tag: String.fromCharCode(...font.subarray(at, at + 4)),
      data: font.slice(start, start + view.getUint32(at + 12)),
    };
  });
}

function fontOf(tables: readonly Table[], version = 0x00010000): Uint8Array {
  const head = 12 + 16 * tables.length;
  const out = new Uint8Array(tables.reduce((sum, { data }) => sum + ((data.length + 3) & ~3), head));
  const view = new DataView(out.buffer);
  view.setUint32(0, version);
  view.setUint16(4, tables.length);
  let end = head;
  for (const [i, { tag, data }] of tables.entries()) {
    const at = 12 + 16 * i;
    out.set(
      Array.from(tag, (letter) => letter.charCodeAt(0)),
      at,
    );
    view.setUint32(at + 8, end);
    view.setUint32(at + 12, data.length);
    out.set(data, end);
    end += (data.length + 3) & ~3;
  }
  return out;
}

/** The first 120 glyphs of DejaVu Sans, ASCII among them, with one map of characters: 40 KB of real outlines and programs. */
function smallFont(): Table[] {
  const tables = new Map(tablesOf(sans).map(({ tag, data }) => [tag, data]));
  const glyphs = 120;
  const view = (data: Uint8Array): DataView => new DataView(data.buffer, data.byteOffset, data.length);
  const loca = tables.get("loca")!.slice(0, 4 * (glyphs + 1));
  const maxp = tables.get("maxp")!.slice();
  view(maxp).setUint16(4, glyphs);
  const hhea = tables.get("hhea")!.slice();
  view(hhea).setUint16(34, glyphs);
  const cmap = new Uint8Array(12 + 28);
  const map = view(cmap);
  map.setUint16(2, 1);
  map.setUint16(4, 3);
  map.setUint16(6, 10);
  map.setUint32(8, 12);
  map.setUint16(12, 12);
  map.setUint32(16, 28);
  map.setUint32(24, 1);
  map.setUint32(28, 32);
  map.setUint32(32, 32 + 94);
  map.setUint32(36, 3);
  return [
    { tag: "cmap", data: cmap },
    { tag: "cvt ", data: tables.get("cvt ")! },
    { tag: "fpgm", data: tables.get("fpgm")! },
    { tag: "glyf", data: tables.get("glyf")!.slice(0, view(loca).getUint32(4 * glyphs)) },
    { tag: "head", data: tables.get("head")! },
    { tag: "hhea", data: hhea },
    { tag: "hmtx", data: tables.get("hmtx")!.slice(0, 4 * glyphs) },
    { tag: "loca", data: loca },
    { tag: "maxp", data: maxp },
    { tag: "prep", data: tables.get("prep")! },
  ];
}

const small = smallFont();

/** The small font with one table changed; null leaves it out. */
function changed(tag: string, change: (data: DataView, bytes: Uint8Array) => Uint8Array | void | null): Uint8Array {
  return fontOf(
    small.flatMap((table) => {
      if (table.tag !== tag) return [table];
      const bytes = table.data.slice();
      const result = change(new DataView(bytes.buffer), bytes);
      return result === null ? [] : [{ tag, data: result ?? bytes }];
    }),
  );
}

test("the small font draws as the large one does", async () => {
  const [part, whole] = [await Font.open(fontOf(small), "small"), await Font.open(sans, "sans")];
  for (const character of "A3a~") {
    const code = character.codePointAt(0)!;
    expect(part.outline(part.glyphOf(code), 16)).toEqual(whole.outline(whole.glyphOf(code), 16));
    expect(part.advance(part.glyphOf(code))).toBe(whole.advance(whole.glyphOf(code)));
  }
});

test.for([
  ["nothing", new Uint8Array(0), "0 bytes are no font"],
  ["text", new TextEncoder().encode("This is no font at all."), "does not begin as a TrueType"],
  ["a collection", new TextEncoder().encode("ttcf and so on, and so on"), "font collection"],
  ["WOFF2", new TextEncoder().encode("wOF2 and so on, and so on"), "unpack it"],
  ["a cut directory", fontOf(small).slice(0, 40), "ends beyond the file"],
  ["a cut table", fontOf(small).slice(0, -4), "ends at byte"],
  ["no map", changed("cmap", () => null), "no 'cmap' table"],
  ["no outlines", changed("glyf", () => null), "no outlines"],
  ["no units", changed("head", (head) => head.setUint16(18, 0)), "0 units per em"],
  ["no glyphs", changed("maxp", (maxp) => maxp.setUint16(4, 0)), "it has no glyphs"],
  ["too many glyphs", changed("maxp", (maxp) => maxp.setUint16(4, 60_000)), "table 'hmtx' has"],
  ["too many advances", changed("hhea", (hhea) => hhea.setUint16(34, 121)), "121 advances for 120 glyphs"],
  ["an outline elsewhere", changed("loca", (loca) => loca.setUint32(40, 0x7fffffff)), "the outline of glyph 10"],
  ["a map of everything", changed("cmap", (cmap) => cmap.setUint32(32, 0xffffffff)), "beyond Unicode"],
  ["a map without end", changed("cmap", (cmap) => cmap.setUint32(24, 0xffffff)), "ranges in 28 bytes"],
  ["two tables of a name", fontOf([...small, small[0]!]), "comes twice"],
] as const)("%s is refused", async ([, bytes, message]) => {
  const opened = Font.open(bytes, "bad.ttf");
  await expect(opened).rejects.toThrow(FontError);
  await expect(opened).rejects.toThrow(/^bad\.ttf: /);
  await expect(opened).rejects.toThrow(message);
});

test("maps whose ranges overlap to more characters than there are, are refused", async () => {
  const ranges = 40;
  const cmap = new Uint8Array(12 + 16 + 8 * ranges);
  const view = new DataView(cmap.buffer);
  for (const [at, value] of [
    [2, 1],
    [4, 3],
    [6, 1],
    [10, 12],
    [12, 4],
    [14, cmap.length - 12],
    [18, 2 * ranges],
  ] as const) {
    view.setUint16(at, value);
  }
  for (let i = 0; i < ranges; i++) view.setUint16(26 + 2 * i, 0xffff);
  await expect(
    Font.open(
      changed("cmap", () => cmap),
      "wide",
    ),
  ).rejects.toThrow("more characters than there are");
});

test("programs without end stop, and the glyphs are drawn as if there were none", async () => {
  const forever = Uint8Array.of(0xb8, 0xff, 0xfd, 0x1c); // PUSHW -3, JMPR: back to the push
  for (const table of ["fpgm", "prep"]) {
    const looping = await Font.open(
      changed(table, () => forever),
      table,
    );
    const bare = await Font.open(
      changed("prep", () => null),
      "bare",
    );
    expect(looping.outline(40, 16)).toEqual(bare.outline(40, 16));
  }
});

test("a composite of itself, or of too much, is no outline", async () => {
  const glyf = new Uint8Array(4000);
  const view = new DataView(glyf.buffer);
  // Glyph i holds glyph i + 1 twice: 2^60 parts at the end of the chain.
  for (let i = 0; i < 100; i++) {
    view.setInt16(26 * i, -1);
    view.setUint16(26 * i + 10, 0x23);
    view.setUint16(26 * i + 12, (i + 1) % 100);
    view.setUint16(26 * i + 18, 0x03);
    view.setUint16(26 * i + 20, (i + 1) % 100);
  }
  const bytes = fontOf(
    small.map(({ tag, data }) => {
      if (tag === "glyf") return { tag, data: glyf };
      if (tag !== "loca") return { tag, data };
      const loca = new Uint8Array(4 * 121);
      for (let i = 0; i <= 120; i++) new DataView(loca.buffer).setUint32(4 * i, 26 * Math.min(i, 100));
      return { tag, data: loca };
    }),
  );
  const font = await Font.open(bytes, "composite");
  for (const glyph of [0, 30, 99]) expect(rasterize(font.outline(glyph, 16)).width).toBe(0);
});

test("five thousand damaged fonts draw or are refused, and nothing else", { timeout: 60_000 }, async () => {
  // opentype.js reports some damage on the console.
  for (const method of ["log", "warn", "error"] as const) vi.spyOn(console, method).mockImplementation(() => {});
  const original = fontOf(small);
  const header = 12 + 16 * small.length;
  let seed = 2026;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const counts = { drawn: 0, refused: 0 };
  for (let i = 0; i < 5000; i++) {
    let bytes = original.slice();
    // A third hits the directory, a third the small tables, a third anything; some fonts are cut.
    for (let hits = 1 + random(8); hits > 0; hits--) {
      const at = i % 3 === 0 ? random(header) : i % 3 === 1 ? header + random(200) : random(bytes.length);
      bytes[at] = [0, 0xff, 0x80, random(256)][random(4)]!;
    }
    if (random(20) === 0) bytes = bytes.slice(0, random(bytes.length));
    try {
      const font = await Font.open(bytes, "mutant");
      const renderer = await createRenderer({
        fonts: [font],
        thoughtMarkers: false,
        engine: i % 2 ? "basic" : "shaped",
      });
      renderer.strip(String.fromCodePoint(33 + (i % 94), 33 + ((i * 7) % 94)));
      counts.drawn++;
    } catch (error) {
      expect(error, `mutant ${i}`).toBeInstanceOf(FontError);
      counts.refused++;
    }
  }
  vi.restoreAllMocks();
  expect(counts.drawn).toBeGreaterThan(500);
  expect(counts.refused).toBeGreaterThan(500);
});
