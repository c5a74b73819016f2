/** Values as NumPy prints them. */
import type { DType } from "./dtype.ts";
import { isFloat } from "./dtype.ts";
import { type Shape, size } from "./shape.ts";

/** Above so many elements only the edges of each axis are shown. */
const SUMMARY = 1000;
const EDGE = 3;

/** Characters after which a row goes on in the next line. */
const LINE = 75;

/** `[[1.  2.5]\n [3.  4. ]]`: as `numpy.array2string` with its default options, long axes shortened to their edges. */
export function format(values: ArrayLike<number>, shape: Shape, dtype: DType): string {
  if (size(shape) === 0) return "[]";
  const shorten = size(shape) > SUMMARY;
  const shown = edges(shape, shorten);
  const write = writer(
    shown.map((i) => values[i] as number),
    dtype,
  );
  if (shape.length === 0) return write(values[0] as number).trim();

  const block = (axis: number, offset: number, indent: string, width: number): string => {
    const step = size(shape.slice(axis + 1));
    const items = indices(shape[axis] as number, shorten).map((i) => {
      if (i < 0) return "...";
      if (axis === shape.length - 1) return write(values[offset + i] as number);
      return block(axis + 1, offset + i * step, `${indent} `, width - 1);
    });
    const body =
      axis === shape.length - 1
        ? wrap(items, indent, width - 1)
        : items.map((item) => indent + item).join("\n".repeat(shape.length - axis - 1));
    return `[${body.slice(indent.length)}]`;
  };
  return block(0, 0, " ", LINE);
}

/** Words in lines of at most `width`, each begun with `indent`. */
function wrap(words: readonly string[], indent: string, width: number): string {
  let done = "";
  let line = indent;
  for (const [i, word] of words.entries()) {
    if (line.length + word.length > width && line.length > indent.length) {
      done += `${line.trimEnd()}\n`;
      line = indent;
    }
    line += i < words.length - 1 ? `${word} ` : word;
  }
  return done + line;
}

/** The indices of an axis to show; -1 stands for the gap. */
function indices(length: number, shorten: boolean): number[] {
  if (!shorten || length <= 2 * EDGE) return Array.from({ length }, (_, i) => i);
  return [0, 1, 2, -1, length - 3, length - 2, length - 1];
}

/** Flat indices of all elements shown. */
function edges(shape: Shape, shorten: boolean): number[] {
  let flat = [0];
  for (const length of shape) {
    const own = indices(length, shorten).filter((i) => i >= 0);
    flat = flat.flatMap((at) => own.map((i) => at * length + i));
  }
  return flat;
}

/** One way to write every number of the array, all equally wide. */
function writer(values: readonly number[], dtype: DType): (value: number) => string {
  if (dtype === "bool") return padded(values, (value) => (value ? "True" : "False"));
  if (!isFloat(dtype)) return padded(values, String);
  const finite = values.filter(Number.isFinite);
  const magnitudes = finite.map(Math.abs).filter((x) => x > 0);
  const [least, most] = [Math.min(...magnitudes), Math.max(...magnitudes)];
  const odd = (value: number): string => (Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf");
  if (magnitudes.length > 0 && (most >= 1e8 || least < 1e-4 || most / least > 1000)) {
    const places = Math.max(...finite.map(mantissaDigits));
    const write = (x: number): string => {
      const [mantissa, exponent] = x.toExponential(places).split("e") as [string, string];
      const sign = exponent.startsWith("-") ? "-" : "+";
      return `${places === 0 ? `${mantissa}.` : mantissa}e${sign}${exponent.slice(1).padStart(2, "0")}`;
    };
    return padded(values, (value) => (Number.isFinite(value) ? write(value) : odd(value)));
  }
  const places = Math.max(0, ...finite.map((x) => digitsAfterPoint(shortest(x))));
  const write = (x: number): string => {
    const [whole, fraction = ""] = shortest(x).split(".") as [string, string?];
    return `${whole}.${fraction.replace(/0+$/, "").padEnd(places, " ")}`;
  };
  return padded(values, (value) => (Number.isFinite(value) ? write(value) : odd(value)));
}

/** At most eight digits after the point, as NumPy's default precision has it, of the number that f32 stands for. */
function shortest(x: number): string {
  for (let digits = 1; digits <= 9; digits++) {
    const text = x.toPrecision(digits);
    if (Math.fround(Number(text)) === Math.fround(x)) {
      const plain = Number(text).toFixed(8);
      return Object.is(x, -0) ? "-0." : plain;
    }
  }
  return x.toFixed(8);
}

/** Digits after the point that a mantissa needs so that f32 tells the number apart, at most eight. */
function mantissaDigits(x: number): number {
  let digits = 0;
  while (digits < 8 && Math.fround(Number(x.toExponential(digits))) !== Math.fround(x)) digits++;
  return digits;
}

function digitsAfterPoint(text: string): number {
  return (text.split(".")[1] ?? "").replace(/0+$/, "").length;
}

function padded(values: readonly number[], write: (value: number) => string): (value: number) => string {
  const width = Math.max(0, ...values.map((value) => write(value).length));
  return (value) => write(value).padStart(width);
}
