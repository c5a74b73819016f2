/** Where the golden pictures of text are, and how they were drawn. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** `$ROT_GOLDEN_DIR/render`, or our own copy of it. */
export const renderFolder = process.env["ROT_GOLDEN_DIR"]
  ? resolve(process.env["ROT_GOLDEN_DIR"], "render")
  : join(import.meta.dirname, "../golden/render");

const readme = readFileSync(join(renderFolder, "README.md"), "utf8").replace(/\s+/g, " ");
const stated = /font_size (\d+), height (\d+), padding (\d+)/.exec(readme);
if (!stated) throw new Error(`${renderFolder}/README.md states no font size, height and padding`);
const [fontSize, height, padding] = stated.slice(1).map(Number) as [number, number, number];

/** Pixels, as the README states them. */
export const drawing = { fontSize, height, padding } as const;
