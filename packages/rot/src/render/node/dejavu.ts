/** DejaVu Sans, the font of the paper's pictures, as the package `dejavu-fonts-ttf` brings it. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Font } from "../font.ts";

let opened: Promise<Font> | undefined;

/** DejaVu Sans 2.37; opened once. */
export function dejaVuSans(): Promise<Font> {
  const path = createRequire(import.meta.url).resolve("dejavu-fonts-ttf/ttf/DejaVuSans.ttf");
  opened ??= Font.open(readFileSync(path), "DejaVu Sans");
  return opened;
}
