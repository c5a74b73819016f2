export { type KeysValues, KvCache, type KvCacheOptions, type Span } from "./kv-cache.ts";
export {
  ConfigError,
  parseQwen3VlConfig,
  type Qwen3VlConfig,
  type TextConfig,
  type VisionConfig,
} from "./qwen3-vl/config.ts";
export { qwen3Vl } from "./qwen3-vl/qwen3-vl.ts";
export type {
  ForwardOptions,
  Grid,
  ImageFeatures,
  Layout,
  Observe,
  VisionLanguageModel,
} from "./vision-language-model.ts";
export {
  ChatTemplate,
  type ContentPart,
  type Message,
  type RenderOptions,
  type TemplateFiles,
} from "./chat-template/chat-template.ts";
export { TemplateError } from "./chat-template/error.ts";
export { type ImageProcessorConfig, readImageProcessorConfig } from "./image-processor/config.ts";
export { ImageError } from "./image-processor/error.ts";
export { type AlphaRule, type Image, type RgbImage, toRgb } from "./image-processor/image.ts";
export {
  expandImagePads,
  ImageProcessor,
  type ImageProcessorOptions,
  type PixelValues,
} from "./image-processor/image-processor.ts";
export { resize, type ResizeRule } from "./image-processor/resize.ts";
export { fetchImageSize, type Size, type SizeRule, smartResize } from "./image-processor/smart-resize.ts";
export { TokenizerError } from "./tokenizer/error.ts";
export { type DecodeOptions, TextStream } from "./tokenizer/text-stream.ts";
export { Tokenizer, type TokenizerFiles, visionTokens } from "./tokenizer/tokenizer.ts";
export { type LoraConfig, printAdapterConfig } from "./lora/config.ts";
export { createLora, Lora, loraFrom, loraParameters, withLora } from "./lora/lora.ts";
export { type Preset, presets } from "./presets.ts";
export { type Architecture, checkKeys, recordArchitecture } from "./weights/architecture.ts";
export { type Checkpoint, type FloatDType, loadCheckpoint, type LoadOptions } from "./weights/checkpoint.ts";
export { type KeyDifferences, type MisshapenKey, WeightsError } from "./weights/error.ts";
export { type InitOptions, randomInit } from "./weights/init.ts";
export { type NewRows, resizeTokenEmbeddings } from "./weights/resize.ts";
export { type Weights, weightsOf } from "./weights/weights.ts";
export { buildModel, describeModel, type Description, type Pretrained, randomModel } from "./pretrained.ts";
export {
  ask,
  type Chat,
  type Conversation,
  encodeConversation,
  type GeneratedText,
  decodeText,
  generateText,
  type GenerateTextOptions,
} from "./generate/chat.ts";
export { ContextError, NumericError } from "./generate/error.ts";
export {
  collect,
  decode,
  type FinishReason,
  generate,
  type Generated,
  type GeneratedToken,
  type GenerateOptions,
  type ScoredToken,
  type StopRule,
} from "./generate/generate.ts";
export { checkContext, prefill, type Prefilled, type Prompt } from "./generate/prefill.ts";
export { copyInto, tensorSource } from "./weights/pieces.ts";
export { readIndex as readShardIndex } from "./weights/shards.ts";
