/** Strict reading and writing of safetensors files, in Node and in a browser. Files: `@rot/tensor/safetensors/node`. */

export { type ByteSource, fromBlob, fromBytes } from "./byte-source.ts";
export { deviceDType, toTyped, type TypedElements } from "./convert.ts";
export { type Rule, SafetensorsError } from "./error.ts";
export { type FileDType, fileDTypeBits, fileDTypes } from "./file-dtype.ts";
export type { Header, TensorEntry } from "./header.ts";
export { openSafetensors, type Safetensors } from "./reader.ts";
export { type TensorSource, writeSafetensors } from "./writer.ts";
