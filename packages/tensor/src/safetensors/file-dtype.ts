/** The element types of the format. */

/**
 * Bits of one element, in the order of the reference: by rising alignment, which is also the order that the writer
 * sorts by, backwards.
 *
 * @see `Dtype` in https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs
 */
export const fileDTypeBits = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** An element type as a safetensors file spells it. */
export type FileDType = keyof typeof fileDTypeBits;

/** Every {@link FileDType}, by rising alignment. */
export const fileDTypes = Object.keys(fileDTypeBits) as readonly FileDType[];

const known: ReadonlySet<string> = new Set(fileDTypes);

/** Whether `text` is an element type of the format. */
export const isFileDType = (text: string): text is FileDType => known.has(text);
