/** Writes PNG files of every colour type, depth and interlacing, for testing what reads them. */
import { crc32, deflateSync } from "node:zlib";

/** A picture of raw samples, and how to write it. */
export interface PngSpec {
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  /** 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA. */
  readonly colour: number;
  readonly interlaced?: boolean;
  /** Sample `c` of the pixel at column x of row y, of `depth` bits. */
  readonly sample: (x: number, y: number, c: number) => number;
  readonly palette?: readonly number[];
  readonly transparency?: readonly number[];
}

const samplesOf: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const adam7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

export function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const length = Buffer.alloc(4);
  const sum = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

export function header(width: number, height: number, depth: number, colour: number, interlaced: boolean): Buffer {
  const data = Buffer.alloc(13);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  data.set([depth, colour, 0, 0, interlaced ? 1 : 0], 8);
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", data)]);
}

export const end: Buffer = chunk("IEND", new Uint8Array());

export function png(spec: PngSpec): Buffer {
  const { width, height, depth, colour, interlaced = false, palette, transparency } = spec;
  const rows: Buffer[] = [];
  for (const [left, top, across, down] of interlaced ? adam7 : ([[0, 0, 1, 1]] as const))
    for (let y = top; y < height && left < width; y += down) {
      let bits = "";
      for (let x = left; x < width; x += across)
        for (let c = 0; c < (samplesOf[colour] as number); c++)
          bits += spec.sample(x, y, c).toString(2).padStart(depth, "0");
      const bytes = Array.from({ length: Math.ceil(bits.length / 8) }, (_, i) =>
        Number.parseInt(bits.slice(i * 8, i * 8 + 8).padEnd(8, "0"), 2),
      );
      rows.push(Buffer.from([0, ...bytes]));
    }
  return Buffer.concat([
    header(width, height, depth, colour, interlaced),
    ...(palette ? [chunk("PLTE", Uint8Array.from(palette))] : []),
    ...(transparency ? [chunk("tRNS", Uint8Array.from(transparency))] : []),
    chunk("IDAT", deflateSync(Buffer.concat(rows))),
    end,
  ]);
}
