/** What reads and writes files. Node only; the rest is in `@rot/models`. */

export { type DecodeImageOptions, decodeImage } from "../image-processor/node/decode-image.ts";
export { loadChatTemplate, loadImage, loadImageProcessor, loadTokenizer } from "./processor.ts";
export { loadAdapter, saveAdapter } from "./adapter.ts";
export { type CheckpointFolder, loadFolder, openCheckpoint, openFiles, readJson } from "./load.ts";
export { companions, type SaveOptions, savePretrained, writeRandomCheckpoint } from "./save.ts";
export { fromPretrained, type PretrainedOptions } from "./pretrained.ts";
export { openChat } from "../generate/node/open-chat.ts";
