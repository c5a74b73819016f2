/** Checkpoints that open without knowing how they were made. Node only. */
export { type BundleParts, bundleContents, bundleFiles } from "./contents.ts";
export { checkModelFolder } from "./model-folder.ts";
export { type Bundle, openBundle, type OpenBundleOptions } from "./open-bundle.ts";
export { openStudent, type Student, type StudentOptions } from "./open-student.ts";
