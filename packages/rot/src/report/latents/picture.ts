/** Latents as a strip of cells, one a latent: its numbers as colors. */
import type { Strip } from "../../render/strip.ts";
import type { LatentView } from "./view.ts";

/** Pixels on a side of a cell, as many as a strip of text is high. */
export const CELL = 32;
/** Pixels between cells. */
const GAP = 2;
/** Cells in a row; more go below. */
const PER_ROW = 32;

type Color = readonly [red: number, green: number, blue: number];
const below: Color = [33, 102, 172];
const zero: Color = [247, 247, 247];
const above: Color = [178, 24, 43];
const paper = 255;

/** What is colored in full: three times the root mean square of all numbers of a question's latents. */
export function scaleOf(views: readonly Pick<LatentView, "values">[]): number {
  let [sum, count] = [0, 0];
  for (const { values } of views) {
    for (const value of values) sum += value * value;
    count += values.length;
  }
  return count > 0 && sum > 0 ? 3 * Math.sqrt(sum / count) : 1;
}

/**
 * A latent as a square: its numbers line by line, blue below zero and red above. Of a latent with more numbers than pixels
 * each pixel is the one that is farthest from zero of those that fall on it.
 *
 * @param values  [D]
 * @param scale   of {@link scaleOf}
 * @returns       [CELL, CELL, 3]
 */
export function heatCell(values: Float32Array, scale: number): Uint8Array {
  const side = Math.min(CELL, Math.ceil(Math.sqrt(values.length)));
  const per = values.length / side ** 2;
  const cell = new Uint8Array(CELL * CELL * 3).fill(paper);
  for (let y = 0; y < CELL; y++) {
    for (let x = 0; x < CELL; x++) {
      const at = Math.floor((y * side) / CELL) * side + Math.floor((x * side) / CELL);
      const [from, to] = per > 1 ? [Math.floor(at * per), Math.floor((at + 1) * per)] : [at, at + 1];
      if (from >= values.length) continue;
      cell.set(colorOf(farthest(values.subarray(from, to)) / scale), 3 * (y * CELL + x));
    }
  }
  return cell;
}

function farthest(values: Float32Array): number {
  let found = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(found)) found = value;
  return found;
}

function colorOf(part: number): number[] {
  const share = Math.min(1, Math.abs(part));
  const end = part < 0 ? below : above;
  return zero.map((channel, i) => Math.round(channel + share * ((end[i] as number) - channel)));
}

/** A row of cells with what is written below each. */
export interface StripRow {
  /** Above the cells. */
  readonly title: Strip;
  readonly views: readonly LatentView[];
  /** Below each cell, line by line, grayscale; what is wider than a cell is cut. */
  readonly labels: readonly (readonly Strip[])[];
}

/** Strips of latents of several questions, one below the other, as one RGB picture. */
export function latentPicture(rows: readonly StripRow[]): Strip {
  const lines = rows.flatMap(({ title, views, labels }) => {
    const scale = scaleOf(views);
    const parts = Array.from({ length: Math.ceil(views.length / PER_ROW) }, (_, i) => {
      const [from, to] = [i * PER_ROW, (i + 1) * PER_ROW];
      return cellsLine(views.slice(from, to), labels.slice(from, to), scale);
    });
    return [titleLine(title), ...parts];
  });
  const width = Math.max(1, ...lines.map((line) => line.width));
  const height = lines.reduce((sum, line) => sum + line.height, 0) + GAP;
  const data = new Uint8Array(width * height * 3).fill(paper);
  let top = GAP;
  for (const line of lines) {
    paste(data, width, line, 0, top);
    top += line.height;
  }
  return { width, height, channels: 3, data, missing: 0 };
}

interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
}

const titleLine = ({ width, height, channels, data }: Strip): Picture => ({ width, height, channels, data });

function cellsLine(views: readonly LatentView[], labels: readonly (readonly Strip[])[], scale: number): Picture {
  const width = views.length * (CELL + GAP);
  const below = Math.max(0, ...labels.map((lines) => lines.reduce((sum, { height }) => sum + height, 0)));
  const height = CELL + below + GAP;
  const data = new Uint8Array(width * height * 3).fill(paper);
  for (const [i, { values }] of views.entries()) {
    const left = i * (CELL + GAP);
    paste(data, width, { width: CELL, height: CELL, channels: 3, data: heatCell(values, scale) }, left, 0);
    let top = CELL;
    for (const label of labels[i] ?? []) {
      paste(data, width, label, left, top, CELL);
      top += label.height;
    }
  }
  return { width, height, channels: 3, data };
}

/** Copies a picture into an RGB one, as far as it is to be seen. */
function paste(target: Uint8Array, width: number, from: Picture, left: number, top: number, widest = Infinity): void {
  for (let y = 0; y < from.height; y++) {
    for (let x = 0; x < Math.min(from.width, widest, width - left); x++) {
      const source = (y * from.width + x) * from.channels;
      const at = ((top + y) * width + left + x) * 3;
      for (let c = 0; c < 3; c++) target[at + c] = from.data[source + (from.channels === 1 ? 0 : c)] as number;
    }
  }
}
