/** Text as pictures: what a browser can load of it. */
export { type ExactEncoding, encodeExact, type ExactOptions } from "./encode.ts";
export { FontError } from "./error.ts";
export { Font } from "./font.ts";
export {
  createRenderer,
  maxPixels,
  maxTextLength,
  type Renderer,
  type RenderOptions,
  type Rgb,
  type Strip,
  withMarkers,
} from "./strip.ts";
