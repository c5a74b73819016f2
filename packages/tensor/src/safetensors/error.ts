/** What can be wrong with a safetensors file, by name and in words. */

import { WeightError } from "../errors.ts";

/** The rule of the format that a file broke. Stable, for programs; the message is for people. */
export type Rule =
  /** Shorter than 8 bytes, or the header's length is beyond the file or beyond 100,000,000. */
  | "header-length"
  /** The header is not UTF-8. */
  | "utf-8"
  /** The header is not JSON: RFC 8259, with no byte-order mark and nothing after it but white space. */
  | "json"
  /** More than 127 objects and arrays in one another. */
  | "depth"
  /** More than 8,388,608 values: a million tensors have about as many. The reference has no such limit. */
  | "values"
  /** A key stands twice in one object. The reference keeps the last one; we refuse, since two readers could differ. */
  | "duplicate-key"
  /** `__metadata__` is neither null nor an object of strings. */
  | "metadata"
  /** A tensor is not an object with dtype, shape and data_offsets of the right kinds. */
  | "tensor"
  | "dtype"
  /** The elements or bits of a shape do not fit 64 bits. */
  | "overflow"
  /** A tensor of 4-bit or 6-bit elements does not end with a byte. */
  | "sub-byte"
  /** The tensors do not follow each other from byte 0 on: a hole, an overlap, or an end before its begin. */
  | "offsets"
  /** The bytes of a tensor are not as many as its dtype and shape need. */
  | "size"
  /** The tensors do not end where the file ends. */
  | "file-size"
  /** The source gave another number of bytes than was asked. */
  | "short-read"
  /** No tensor has the name asked for. */
  | "no-such-tensor"
  /** A dtype that no device dtype stands for, or a value outside the device dtype. */
  | "conversion"
  /** A name or text that a file cannot hold. */
  | "text";

/** A {@link WeightError} that also says which rule of the format was broken. */
export class SafetensorsError extends WeightError {
  readonly rule: Rule;

  constructor(rule: Rule, message: string) {
    super(message);
    this.rule = rule;
  }
}

/** `value` as JSON text for a message: control characters escaped, cut at 80 characters, since files may be hostile. */
export function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
}

/** `F32 [2, 3]`, with at most 8 dimensions written out. */
export function describe(dtype: string, shape: readonly (number | bigint)[]): string {
  return `${dtype} [${shape.slice(0, 8).join(", ")}${shape.length > 8 ? ", …" : ""}]`;
}
