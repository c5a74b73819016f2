/** Datasets from and to files. Node only. */
export { type Dataset, readDataset, type ReadOptions } from "./read-dataset.ts";
export { preprocess, type Preprocessed, type PreprocessOptions } from "../preprocess/node/preprocess.ts";
export { type TargetCache, targetCache, type TargetCacheOptions } from "../target-cache/node/target-cache.ts";
