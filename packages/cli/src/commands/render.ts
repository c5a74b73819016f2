/** `rot-cli render`: text to pictures, as the training draws chains of thought. */
import { readFile } from "node:fs/promises";
import { parse as parsePath, resolve } from "node:path";
import { createRenderer, encodeExact, Font, type Renderer, type Rgb, type Strip } from "@rot/rot/render";
import { dejaVuSans, encodePng, writePicture } from "@rot/rot/render/node";
import { Command, InvalidArgumentError, Option } from "commander";
import { ExitError, exitCodes } from "../exit-codes.ts";
import type { Input, Output } from "../program.ts";

interface Flags {
  readonly output: string;
  readonly input?: string;
  readonly layout: "single-line" | "square";
  readonly engine: "shaped" | "basic";
  readonly fontSize: number;
  readonly font?: string;
  readonly height: number;
  readonly padding: number;
  readonly squareSize: number;
  readonly color: Rgb;
  readonly background: Rgb;
  readonly thoughtMarkers: boolean;
  readonly force: boolean;
  readonly json: boolean;
}

/** A picture that was written. */
interface Written {
  readonly file: string;
  readonly width: number;
  readonly height: number;
  /** Vision tokens of the exact encoding. */
  readonly latents: number;
  /** Characters that no font has. */
  readonly missing: number;
}

/** Input beyond this is refused before it is read into memory. */
const maxInputBytes = 64 * 1024 * 1024;

/** The command. Without text it reads lines from `--input` or standard input, a picture each. */
export function render(output: Output, input: Input): Command {
  return new Command("render")
    .description("draw text as the model is shown it: one line of any length, or wrapped squares")
    .argument("[text]", "what to draw; without it, every line of --input or of standard input makes a picture")
    .requiredOption("-o, --output <file>", "PNG file to write; several pictures are numbered: out-1.png, out-2.png")
    .option("-i, --input <file>", "read the lines of this UTF-8 file; - is standard input")
    .addOption(
      new Option("--layout <name>", "one line, or wrapped squares")
        .choices(["single-line", "square"])
        .default("single-line"),
    )
    .addOption(
      new Option("--engine <name>", "shape with HarfBuzz, or one glyph a character")
        .choices(["shaped", "basic"])
        .default("shaped"),
    )
    .option("--font-size <pixels>", "pixels an em", pixels, 20)
    .option("--font <file>", "a .ttf or .otf file; DejaVu Sans draws what it lacks")
    .option("--height <pixels>", "height of a single line", pixels, 32)
    .option("--padding <pixels>", "empty pixels around the text", pixels, 4)
    .option("--square-size <pixels>", "side of a square", pixels, 1024)
    .option("--color <rrggbb>", "color of the text", color, [0, 0, 0] as Rgb)
    .option("--background <rrggbb>", "color behind the text", color, [255, 255, 255] as Rgb)
    .option("--no-thought-markers", "leave out <|begin_of_thought|> and <|end_of_thought|>")
    .option("--force", "replace files that exist", false)
    .option("--json", "print the pictures as one JSON array", false)
    .addHelpText(
      "after",
      '\nExamples:\n  rot-cli render "3 + 4 = 7" -o sum.png\n  rot-cli render -i chains.txt -o chain.png --font-size 16\n' +
        '  printf "one\\ntwo\\n" | rot-cli render -o line.png --engine basic\n',
    )
    .action(async (text: string | undefined, flags: Flags) => {
      if (text !== undefined && flags.input !== undefined) {
        throw new ExitError("there is a text and --input; give one of them", exitCodes.usage);
      }
      const texts = text === undefined ? await readLines(flags.input ?? "-", input) : [text];
      const written = await draw(texts, flags, output);
      if (flags.json) output.out(`${JSON.stringify(written, null, 2)}\n`);
    });
}

function pixels(value: string): number {
  if (!/^\d{1,6}$/.test(value)) throw new InvalidArgumentError("It is a whole number of pixels.");
  return Number(value);
}

function color(value: string): Rgb {
  const digits = /^#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(value);
  if (!digits) throw new InvalidArgumentError("It is six hexadecimal digits, such as ff8800.");
  return [Number.parseInt(digits[1]!, 16), Number.parseInt(digits[2]!, 16), Number.parseInt(digits[3]!, 16)];
}

async function draw(texts: readonly string[], flags: Flags, output: Output): Promise<Written[]> {
  const renderer = await open(flags);
  const written: Written[] = [];
  for (const [i, text] of texts.entries()) {
    const pictures = flags.layout === "square" ? renderer.squares(text) : [renderer.strip(text)];
    for (const [page, picture] of pictures.entries()) {
      const numbers = [...(texts.length > 1 ? [i + 1] : []), ...(pictures.length > 1 ? [page + 1] : [])];
      const one = await write(picture, numbered(flags.output, numbers), flags);
      written.push(one);
      if (!flags.json) output.out(describe(one));
    }
  }
  return written;
}

async function open(flags: Flags): Promise<Renderer> {
  const fonts = [await dejaVuSans()];
  if (flags.font !== undefined) {
    const bytes = await readFile(flags.font).catch((error: unknown) => {
      throw new ExitError(`--font ${flags.font} cannot be read: ${reason(error)}`, exitCodes.badInput);
    });
    fonts.unshift(await Font.open(bytes, flags.font));
  }
  return createRenderer({ ...flags, fonts });
}

async function readLines(from: string, input: Input): Promise<string[]> {
  const named = from === "-" ? "standard input" : from;
  const bytes = await (from === "-" ? readStream(input, named) : readFile(from)).catch((error: unknown) => {
    throw error instanceof ExitError
      ? error
      : new ExitError(`${named} cannot be read: ${reason(error)}`, exitCodes.badInput);
  });
  if (bytes.length > maxInputBytes) tooLong(named);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ExitError(`${named} is not UTF-8; convert it first`, exitCodes.badInput);
  }
  const lines = text.split(/\r\n|\n/);
  if (lines.at(-1) === "") lines.pop();
  if (lines.length === 0)
    throw new ExitError(`${named} has no lines; give a text: rot-cli render "text" -o out.png`, exitCodes.badInput);
  return lines;
}

async function readStream(stream: Input, named: string): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    chunks.push(Buffer.from(chunk as Uint8Array | string));
    size += chunks.at(-1)!.length;
    if (size > maxInputBytes) tooLong(named);
  }
  return Buffer.concat(chunks);
}

function tooLong(named: string): never {
  throw new ExitError(`${named} is longer than ${maxInputBytes} bytes; split it`, exitCodes.badInput);
}

/** out.png and [3, 1] make out-3-1.png. */
function numbered(file: string, numbers: readonly number[]): string {
  const { dir, name, ext } = parsePath(file);
  return resolve(dir, [name, ...numbers].join("-") + (ext || ".png"));
}

async function write(picture: Strip, file: string, { force, background }: Flags): Promise<Written> {
  try {
    await writePicture(file, encodePng(picture), { replace: force });
  } catch (error) {
    const exists = (error as NodeJS.ErrnoException).code === "EEXIST";
    throw new ExitError(
      exists ? `${file} exists; choose another name or add --force` : `${file} cannot be written: ${reason(error)}`,
      exists ? exitCodes.usage : exitCodes.badInput,
    );
  }
  const { width, height, missing } = picture;
  return { file, width, height, latents: encodeExact(picture, { background }).cells, missing };
}

function describe({ file, width, height, latents, missing }: Written): string {
  const lacking = missing === 0 ? "" : `, ${missing} characters in no font (drawn as boxes)`;
  return `${file}  ${width} x ${height}, ${latents} latents${lacking}\n`;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
