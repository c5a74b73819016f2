/** Philox 4x32-10 in WGSL, equal to `philox.ts` bit for bit. */

/**
 * `philox(counter: vec4u, key: vec2u) -> vec4u`, and `mul_high(a, b)`, the high word of a product.
 *
 * WGSL has no 64-bit integers, so the high word is put together from halves.
 */
export const philoxFunctions = `
  fn mul_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let low = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (low >> 16u);
  }

  fn philox(counter: vec4u, key: vec2u) -> vec4u {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
      let high0 = mul_high(0xd2511f53u, c.x);
      let high1 = mul_high(0xcd9e8d57u, c.z);
      c = vec4u(high1 ^ c.y ^ k.x, 0xcd9e8d57u * c.z, high0 ^ c.w ^ k.y, 0xd2511f53u * c.x);
      k += vec2u(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
  }`;
