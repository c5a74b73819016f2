/** 16-bit floats in WGSL. */

/** The two floats of a word `w`, as a vec2f, for each 16-bit dtype. */
export const halvesOfWord = {
  bf16: "vec2f(bitcast<f32>(w << 16u), bitcast<f32>(w & 0xffff0000u))",
  f16: "unpack2x16float(w)",
} as const;

/** `half(x: f32) -> u32` for each 16-bit dtype: its bits, rounding to the nearest and ties to even. */
export const halfFunctions = {
  bf16: `
  fn half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  }`,

  // Above 65519 a half is infinite; `pack2x16float` may do anything there, so the edges are written out.
  f16: `
  fn half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
    if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }
    if (magnitude < 0x38800000u) {
      let shift = 126u - (magnitude >> 23u);
      if (shift > 25u) { return sign; }
      let fraction = (magnitude & 0x7fffffu) | 0x800000u;
      let kept = fraction >> shift;
      let rest = fraction & ((1u << shift) - 1u);
      let middle = 1u << (shift - 1u);
      return sign | (kept + select(0u, 1u, rest > middle || (rest == middle && (kept & 1u) == 1u)));
    }
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }`,
} as const;
