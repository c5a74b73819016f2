export { type FieldMap, type Format, type FormatOptions, formats, parseMap, type Row, RowError } from "./data/formats.ts";
export { type BadRow, DatasetError, listRows, type Sample } from "./data/sample.ts";
export { split, type Split } from "./data/split.ts";
export { syntheticSample, syntheticSamples, type SyntheticOptions } from "./data/synthetic.ts";
export type { Encoding, Statistics } from "./data/preprocess/collect.ts";
export type { Distribution } from "./data/preprocess/statistics.ts";
export { type ExactEncoding, encodeExact, type ExactOptions } from "./render/encode.ts";
export { FontError } from "./render/error.ts";
export { Font } from "./render/font.ts";
export {
  createRenderer,
  type Renderer,
  type RenderOptions,
  type Rgb,
  type Strip,
  withMarkers,
} from "./render/strip.ts";
export { exactPixelValues, referencePixelValues, referenceResize } from "./render/vision.ts";
