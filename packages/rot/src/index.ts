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
