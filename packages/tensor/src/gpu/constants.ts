/** Flags of the WebGPU specification, as numbers: Node has no `GPUBufferUsage` global, and we add none. */

/** @see https://www.w3.org/TR/webgpu/#buffer-usage */
export const usage = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

/** `GPUMapMode.READ` */
export const MAP_MODE_READ = 1;

/** `GPUShaderStage.COMPUTE` */
export const STAGE_COMPUTE = 4;
