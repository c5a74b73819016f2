export {
  type FieldMap,
  type Format,
  type FormatOptions,
  formats,
  parseMap,
  type Row,
  RowError,
} from "./data/formats.ts";
export { type BadRow, DatasetError, listRows, type Sample } from "./data/sample.ts";
export { split, type Split } from "./data/split.ts";
export { syntheticSample, syntheticSamples, type SyntheticOptions } from "./data/synthetic.ts";
export type { Statistics } from "./data/preprocess/collect.ts";
export { targetKey, type TargetSettings, towerKey } from "./data/target-cache/key.ts";
export { computeTargets, type TargetOptions, type Targets, type TargetStore } from "./data/target-cache/targets.ts";
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
export { type Encoding, exactPixelValues, referencePixelValues, referenceResize } from "./render/vision.ts";
export {
  type ConfigFile,
  ConfigurationError,
  configJsonSchema,
  configKeys,
  loadConfig,
  type LoadedConfig,
  type Override,
  parseValue,
} from "./config/load.ts";
export { type RunConfig } from "./config/schema.ts";
export { type Outcome, type RunOptions, runTask, type StepReport } from "./train/run-task.ts";
export type { OptimizerSettings, StepGradients, TrainingTask } from "./train/task.ts";
export {
  type BundleConfig,
  BundleError,
  type LatentPolicy,
  type MarkerRecord,
  paperStrips,
  type StripRecord,
} from "./bundle/config.ts";
export type { MarkerMode } from "./bundle/markers.ts";
export { type Ablation, ablations, type Arm, arms } from "./evaluate/ablations.ts";
export {
  type AnswerRule,
  answersEqual,
  checkAnswer,
  extractAnswer,
  referenceAnswer,
  type Verdict,
} from "./evaluate/answers.ts";
export { checkEvaluation, evaluate } from "./evaluate/evaluate.ts";
export { numberOf } from "./evaluate/numbers.ts";
export type { EvaluateOptions, Subject } from "./evaluate/options.ts";
export {
  type ArmSummary,
  type CompressionSummary,
  type Row as EvaluationRow,
  type Score,
  summarize,
  type Summary,
} from "./evaluate/rows.ts";
export { generateAnswers, type GenerateAnswersOptions, type GeneratedAnswer } from "./methods/rot/generate.ts";
export { promptOf, streamAnswers, type Streamed, type StreamOptions, type Thoughts } from "./methods/rot/stream.ts";
export {
  latentPage,
  meanings,
  type ShownLatent,
  type ShownThought,
  token as visibleToken,
} from "./report/latents/page.ts";
export { CELL, heatCell, latentPicture, scaleOf, type StripRow } from "./report/latents/picture.ts";
export { type Drawing, type NearestCell, nearestCells } from "./report/latents/drawn.ts";
export { type LatentView, viewLatents } from "./report/latents/view.ts";
export { tinySamples } from "./tiny/problems.ts";
export { readLatents } from "./tiny/read.ts";
