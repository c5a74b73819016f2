import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { PNG } from "pngjs";
import { describe, expect, test } from "vitest";
import { Font } from "./font.ts";
import { dejaVuSans, encodePng } from "./node/index.ts";
import { createRenderer, maxTextLength, type RenderOptions, withMarkers } from "./strip.ts";

const make = async (options: Partial<RenderOptions> = {}) =>
  createRenderer({ fonts: [await dejaVuSans()], ...options });
const plain = { thoughtMarkers: false } as const;

test.for([
  [
    "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\nShe makes 9 * 2 = $<<9*2=18>>18 every day at the farmer’s market.",
    1762,
  ],
  ["He sprints 3*3=<<3*3=9>>9 times\nSo he runs 9*60=<<9*60=540>>540 meters.", 1300],
  [
    "She eats 3 eggs every day and there are 7 days in a week so she eats 3*7 = <<3*7=21>>21 eggs a week\nAfter 4 weeks she will have eaten 4*21 = <<4*21=84>>84 eggs\nThere are 12 eggs in 1 dozen and she'll eat 84 eggs so that's 84/12 = <<84/12=7>>7 dozen eggs",
    3198,
  ],
  [
    String.raw`Let $M$ be the least positive multiple of 30 that can be written with only the digits 0 and 2. First, $M$ is a multiple of 10, so its units digit must be 0. $M$ is also a multiple of 3, which means the sum of its digits must be a multiple of 3. Therefore, we must take at least three 2's. Since $M$ is minimal, we take exactly three 2's and do not have any additional 0's: $M=\boxed{2220}$.`,
    4309,
  ],
  [
    String.raw`If there are $S$ students at Baker Middle School, then $\frac{2}{3}S$ students take music.  Setting $\frac{2}{3}S$ equal to 834 and multiplying both sides by $\frac{3}{2}$, we find that there are $\frac{3}{2}\times 834=\boxed{1251}$ students at the school.`,
    3107,
  ],
] as const)("the paper's widths: %s", async ([text, width]) => {
  const renderer = await make();
  expect(renderer.width(text)).toBe(width);
  expect(renderer.strip(text)).toMatchObject({ width, height: 32, channels: 1, missing: 0 });
});

test("the ink of 20 px text lies in rows 10 to 30, as in the paper's pictures", async () => {
  const { width, height, data } = (await make()).strip("a");
  const rows = Array.from({ length: height }, (_, y) => data.subarray(y * width, (y + 1) * width).some((v) => v < 255));
  expect([rows.indexOf(true), rows.lastIndexOf(true)]).toEqual([10, 29]);
});

test("markers, padding, height and newlines do what they say", async () => {
  const bare = await make(plain);
  expect((await make()).width("x")).toBe(bare.width(withMarkers("x")));
  expect((await make({ ...plain, padding: 9 })).width("x")).toBe(bare.width("x") + 10);
  expect((await make({ ...plain, height: 64 })).strip("x")).toMatchObject({ height: 64, width: bare.width("x") });
  expect(bare.strip("a\r\nb\rc\nd")).toEqual(bare.strip("a b c d"));
  const kept = await make({ ...plain, newlines: "keep" });
  expect(kept.width("a\nbcd")).toBe(bare.width("bcd"));
  expect((await make({ ...plain, newlines: "keep", height: 64 })).strip("a\nb")).not.toEqual(kept.strip("a"));
});

test("empty text is a strip of padding; without padding it has no pixel and draws as such", async () => {
  expect((await make(plain)).strip("")).toMatchObject({ width: 8, height: 32, missing: 0 });
  expect((await make({ ...plain, padding: 0 })).strip("")).toMatchObject({ width: 0, height: 32 });
});

test("colors make three channels, grays one", async () => {
  const black = (await make()).strip("hello");
  const gray = (await make({ color: [255, 255, 255], background: [0, 0, 0] })).strip("hello");
  expect(gray.data.every((value, i) => value === 255 - black.data[i]!)).toBe(true);
  const colored = (await make({ color: [255, 0, 9] })).strip("hello");
  expect(colored.channels).toBe(3);
  expect(colored.data.filter((_, i) => i % 3 === 0).every((value) => value === 255)).toBe(true);
  expect(colored.data.filter((_, i) => i % 3 === 1)).toEqual(black.data);
});

describe("scripts", () => {
  const drawn = [
    "English",
    "Ελληνικά",
    "Русский",
    "Հայերեն",
    "עברית",
    "العربية",
    "ქართული",
    "ລາວ",
    "ᐃᓄᒃᑎᑐᑦ",
    "Tiếng Việt",
    "ߒߞߏ",
    "⠃⠗⠇",
    "😀 ∑∏∫∞",
  ];
  test.for(drawn)("%s is drawn with its own glyphs", async (text) => {
    const strip = (await make(plain)).strip(text);
    expect(strip.missing).toBe(0);
    expect(strip.data.some((value) => value === 0)).toBe(true);
  });

  test.for([
    ["हिन्दी", 6],
    ["中文", 2],
    ["ไทย", 3],
    ["한국어", 3],
    ["a\tb\u0007", 2],
    ["\ud800", 1],
  ] as const)("%j draws a box for what no font has, and counts it", async ([text, missing]) => {
    expect((await make(plain)).strip(text).missing).toBeLessThanOrEqual(missing);
    expect((await make(plain)).strip(text).missing).toBeGreaterThan(0);
    expect((await make({ ...plain, engine: "basic" })).strip(text).missing).toBe(missing);
  });

  test("Arabic joins: shaped text is narrower than its letters apart", async () => {
    expect((await make(plain)).width("سلام")).toBeLessThan((await make({ ...plain, engine: "basic" })).width("سلام"));
  });

  test("a mark that is placed by its anchor lies above its letter, not below", async () => {
    const inkRows = async (text: string) => {
      const { width, data } = (await make(plain)).strip(text);
      return Array.from({ length: 32 }, (_, y) =>
        data.subarray(y * width, (y + 1) * width).some((value) => value < 128),
      );
    };
    // There is no glyph for q with an acute.
    const [bare, marked] = [await inkRows("q"), await inkRows("q\u0301")];
    expect(marked.indexOf(true)).toBeLessThan(bare.indexOf(true));
    expect(marked.lastIndexOf(true)).toBe(bare.lastIndexOf(true));
    // A capital's acute is higher than a small letter's, by the anchor alone.
    expect((await inkRows("X\u0301")).indexOf(true)).toBeLessThan(marked.indexOf(true));
  });

  test("ligatures, kerning and combining marks are shaped", async () => {
    const renderer = await make(plain);
    expect(renderer.width("AVAVAV")).toBeLessThan(renderer.width("AAAVVV"));
    expect(renderer.width("e\u0301")).toBe(renderer.width("é"));
    expect(renderer.width("a\u200db")).toBe(renderer.width("ab"));
  });
});

test("a hundred thousand characters are one strip, a million and one are refused", async () => {
  const renderer = await make(plain);
  const strip = renderer.strip("0123456789".repeat(10_000));
  // A digit advances by 1303 units of 2048, scaled to 64ths of a pixel.
  expect(strip.width).toBe(Math.floor((100_000 * Math.round((1303 * 20 * 64) / 2048) + 32) / 64) + 8);
  expect(() => renderer.strip("a".repeat(maxTextLength + 1))).toThrow("1000000 are drawn at most");
  expect(() => renderer.strip("W".repeat(maxTextLength))).toThrow("too large");
});

test("texts of spaces and of unpaired parts of the bidirectional rules are drawn", async () => {
  const renderer = await make(plain);
  for (const text of [" ", "\u202e\u202dabc\u2066", "12 שלום (34)", "\u0301", "\u200f", "\0"]) {
    expect(renderer.strip(text).height).toBe(32);
  }
});

describe("squares", () => {
  test("wrap at spaces, fill one after another, and lose no word", async () => {
    const renderer = await make({ ...plain, squareSize: 200, fontSize: 20 });
    const one = renderer.squares("one two three");
    expect(one).toHaveLength(1);
    expect(one[0]).toMatchObject({ width: 200, height: 200, channels: 1 });
    const many = renderer.squares("word ".repeat(120).trim());
    // 3 words of 57 pixels a line of 192, 7 lines of 28 pixels a square.
    expect(many).toHaveLength(6);
    const inked = (pictures: typeof many) =>
      pictures.reduce((sum, { data }) => sum + data.filter((v) => v < 128).length, 0);
    expect(inked(many)).toBe(120 * inked(renderer.squares("word")));
  });

  test("keep line breaks, cut long words, and take empty text", async () => {
    const renderer = await make({ ...plain, squareSize: 100 });
    expect(renderer.squares("")).toHaveLength(1);
    expect(renderer.squares("a\nb")[0]).not.toEqual(renderer.squares("a b")[0]);
    expect(renderer.squares("x".repeat(500)).length).toBeGreaterThan(5);
    expect((await make({ ...plain, squareSize: 10, fontSize: 40 })).squares("ab")).toHaveLength(2);
  });
});

test("a second font draws what the first lacks", async () => {
  const path = createRequire(import.meta.url).resolve("dejavu-fonts-ttf/ttf/DejaVuMathTeXGyre.ttf");
  const math = await Font.open(readFileSync(path), path);
  const sans = await dejaVuSans();
  for (const engine of ["basic", "shaped"] as const) {
    const alone = await make({ ...plain, fonts: [math], engine });
    const both = await make({ ...plain, fonts: [math, sans], engine });
    expect(alone.strip("x шл").missing).toBe(2);
    expect(both.strip("x шл").missing).toBe(0);
    expect(both.strip("x + y")).toEqual(alone.strip("x + y"));
    expect(both.width("шл") - 8).toBe((await make({ ...plain, engine })).width("шл") - 8);
  }
});

test("options out of range are refused", async () => {
  await expect(make({ fontSize: 0 })).rejects.toThrow("fontSize is 0");
  await expect(make({ fontSize: 12.5 })).rejects.toThrow("whole number of pixels");
  await expect(make({ padding: -1 })).rejects.toThrow("padding is -1");
  await expect(make({ fonts: [] })).rejects.toThrow("fonts is empty");
  await expect(make({ color: [0, 0, 256] })).rejects.toThrow("color is 0, 0, 256");
  await expect(make({ squareSize: 8 })).rejects.toThrow("leaves nothing");
});

test("a PNG holds the pixels of the strip, gray or colored", async () => {
  for (const color of [
    [0, 0, 0],
    [200, 10, 30],
  ] as const) {
    const strip = (await make({ color })).strip("3 + 4 = 7");
    const png = PNG.sync.read(Buffer.from(encodePng(strip)));
    expect([png.width, png.height]).toEqual([strip.width, strip.height]);
    const expected =
      strip.channels === 3
        ? strip.data
        : Uint8Array.from({ length: 3 * strip.data.length }, (_, i) => strip.data[Math.floor(i / 3)]!);
    expect(Uint8Array.from(png.data.filter((_, i) => i % 4 !== 3))).toEqual(expected);
  }
});
