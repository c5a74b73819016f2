/** Evaluation of checkpoints into files. Node only. */
export { drawingOf, measureOf, subjectOf } from "./evaluate-bundle.ts";
export { openResults, type ResultsFile, type ResultsOptions, type Settings } from "./results-file.ts";
