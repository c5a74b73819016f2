/** What of this package needs Node: files in, files out. */
export * from "../convert/index.ts";
export * from "../data/node/index.ts";
