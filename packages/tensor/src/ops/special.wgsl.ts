/**
 * WGSL functions that the language lacks or that adapters round badly. Over `T` (f32 or vec4f) with its words `C`, unless
 * they say f32; `infinity()`, `not_a_number()` and `is_nan(x)` are the pointwise template's.
 */

/** tanh without overflow: the built-in gives NaN for large arguments on some adapters, and loses digits near 0. */
export const tanhHelper = `
  fn tanh_(x: T) -> T {
    let a = min(abs(x), T(15.0));
    let e = exp(-2.0 * a);
    let far = (1.0 - e) / (1.0 + e);
    let s = a * a;
    let near = a * (1.0 + s * (-0.33333333 + s * (0.13333333 + s * (-0.05396825 + s * 0.02186949))));
    return select(sign(x) * select(far, near, a < T(0.25)), x, is_nan(x));
  }`;

/** exp(x) to the last digits: the built-in rounds x · log₂e first, which at ±80 costs 4e-6 of the result. */
export const expHelper = `
  fn two_to(n: T) -> T { return bitcast<T>(C(n + 127.0) << C(23u)); }
  fn exp_(x: T) -> T {
    let n = clamp(round(x * 1.4426950408889634), T(-160.0), T(130.0));
    let rest = (x - n * 0.693359375) + n * 2.12194440e-4;
    let half = floor(n * 0.5);
    return select(exp(rest) * two_to(half) * two_to(n - half), x, is_nan(x));
  }`;

/** exp(x) − 1 without cancellation near 0. */
export const expm1Helper = `${expHelper}
  fn expm1_(x: T) -> T {
    let near = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.008333334 + x * 0.0013888889)))));
    return select(exp_(x) - 1.0, near, abs(x) < T(0.3));
  }`;

/**
 * The logarithm to the last digits, with its edges: the built-in loses relative accuracy near 1, and on some adapters
 * takes negative numbers.
 *
 * With s = f/(2 + f), log(1 + f) = 2 artanh s, by a polynomial in s² for |s| ≤ 0.1716.
 *
 * @see FreeBSD's msun, e_logf.c, for the scheme and the coefficients
 */
export const logHelper = `
  /* log(1 + f) for f from √½ − 1 to √2 − 1 */
  fn log_near(f: T) -> T {
    let s = f / (2.0 + f);
    let z = s * s;
    let half = 0.5 * f * f;
    let tail = z * (0.66666662693 + z * (0.40000972152 + z * (0.28498786688 + z * 0.24279078841)));
    return f - (half - s * (half + tail));
  }
  fn log_(x: T) -> T {
    let small = x < T(1.1754944e-38);
    let word = bitcast<C>(select(x, x * 8388608.0, small)) + C(${0x3f800000 - 0x3f3504f3}u);
    let k = T(word >> C(23u)) - select(T(127.0), T(150.0), small);
    let m = bitcast<T>((word & C(0x7fffffu)) + C(0x3f3504f3u));
    let y = k * 0.69313812256 + (log_near(m - 1.0) + k * 9.0580006145e-6);
    let zero = select(y, -infinity(), x == T(0.0));
    return select(select(zero, not_a_number(), x < T(0.0)), x, is_nan(x) | (x == infinity()));
  }`;

/** log(1 + x) without cancellation near 0. */
export const log1pHelper = `${logHelper}
  fn log1p_(x: T) -> T {
    return select(log_(1.0 + x), log_near(x), (x > T(-0.29)) & (x < T(0.41)));
  }`;

/**
 * Sine and cosine of f32 of any size: the built-ins are off by 1e-4 on some adapters and by more for large angles.
 *
 * The angle in quarter turns, x · 2/π modulo 4, comes from the product of its 24-bit significand with the 96 bits of 2/π
 * that matter at its exponent, in integers; what is left lies within ±π/4.
 *
 * @see Payne & Hanek 1983, "Radian reduction for trigonometric functions"
 * @see Moshier, Cephes, sinf.c, for the polynomials
 */
export const sinHelper = `
  struct Angle { quarter: u32, rest: f32 }
  const two_over_pi = array<u32, 8>(
    0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu);
  fn upper_half(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let one = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let two = (a & 0xffffu) * (b >> 16u) + (one & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (one >> 16u) + (two >> 16u);
  }
  fn window(word: u32, shift: u32) -> u32 {
    return (two_over_pi[word] << shift) | ((two_over_pi[word + 1u] >> 1u) >> (31u - shift));
  }
  fn angle(x: f32) -> Angle {
    let bits = bitcast<u32>(x) & 0x7fffffffu;
    if (bits < 0x3f490fdbu) { return Angle(0u, x); }
    if (bits >= 0x7f800000u) { return Angle(0u, not_a_number()); }
    let offset = (bits >> 23u) - 120u;
    let word = offset / 32u;
    let shift = offset % 32u;
    let m = (bits & 0x7fffffu) | 0x800000u;
    let middle = m * window(word + 1u, shift);
    let low = middle + upper_half(m, window(word + 2u, shift));
    let high = m * window(word, shift) + upper_half(m, window(word + 1u, shift)) + select(0u, 1u, low < middle);
    let quarter = (high + 0x20000000u) >> 30u;
    let turn = f32(bitcast<i32>((high << 2u) | (low >> 30u))) * 0x1p-32 + f32(low << 2u) * 0x1p-64;
    let rest = turn * 1.5707963267948966;
    return Angle(select(quarter, 4u - quarter, x < 0.0), select(rest, -rest, x < 0.0));
  }
  fn wave(quarter: u32, r: f32) -> f32 {
    let z = r * r;
    let sine = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 + z * -1.9515295891e-4));
    let cosine = 1.0 - 0.5 * z + z * z * (4.166664568e-2 + z * (-1.388731625e-3 + z * 2.443315712e-5));
    let y = select(sine, cosine, (quarter & 1u) == 1u);
    return select(y, -y, (quarter & 2u) == 2u);
  }
  fn sin_(x: f32) -> f32 { let a = angle(x); return wave(a.quarter, a.rest); }
  fn cos_(x: f32) -> f32 { let a = angle(x); return wave(a.quarter + 1u, a.rest); }`;

/**
 * aᵇ of f32 as C's pow has it, also for a negative `a` and a whole `b`: exp2(b · log₂a), with log₂a in two words, so that
 * a large `b` does not magnify its rounding. `head` keeps 12 bits of a number, so that products of heads are exact; and
 * compilers, which may cancel (a + b) − a, see no further than its bits.
 *
 * @see Ng, Sun's fdlibm, e_pow.c, for the splitting
 */
export const powHelper = `
  fn head(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }
  fn magnitude(a: f32, b: f32) -> f32 {
    let small = a < 1.1754944e-38;
    let word = bitcast<u32>(select(a, a * 8388608.0, small)) + ${0x3f800000 - 0x3f3504f3}u;
    let k = f32(word >> 23u) - select(127.0, 150.0, small);
    let m = bitcast<f32>((word & 0x7fffffu) + 0x3f3504f3u);
    let f = m - 1.0;
    let d = m + 1.0;
    let s = f / d;
    let s1 = head(s);
    let d1 = head(d);
    let s2 = ((f - s1 * d1) - s1 * (m - (d1 - 1.0))) / d;
    let z = s * s;
    let tail = s * z * (0.33333333333 + z * (0.2 + z * (0.14285714286 + z * (0.11111111111 + z * 0.090909090909))));
    let p1 = s1 * 2.884765625;
    let p2 = s1 * 0.000624456777927 + (s2 + tail) * 2.885390081777927;
    let log1 = head(k + (p1 + p2));
    let log2 = (p1 - (log1 - k)) + p2;
    let e = clamp(b, -0x1p33, 0x1p33);
    let e1 = head(e);
    let y1 = log1 * e1;
    let y2 = (e - e1) * log1 + e * log2;
    if (y1 + y2 > 129.0) { return infinity(); }
    if (y1 + y2 < -151.0) { return 0.0; }
    let n = round(y1 + y2);
    let half = floor(n * 0.5);
    return exp2((y1 - n) + y2) * two_to(half) * two_to(n - half);
  }
  fn two_to(n: f32) -> f32 { return bitcast<f32>(u32(n + 127.0) << 23u); }
  fn power(a: f32, b: f32) -> f32 {
    if (b == 0.0 || a == 1.0) { return 1.0; }
    if (is_nan(a) || is_nan(b)) { return a + b; }
    let size = abs(a);
    let edge = size == 0.0 || size == infinity();
    var y = 1.0;
    if (edge) {
      y = select(0.0, infinity(), (size == 0.0) == (b < 0.0));
    } else if (size != 1.0) {
      y = magnitude(size, b);
    }
    if ((bitcast<u32>(a) >> 31u) == 0u) { return y; }
    let whole = floor(b) == b;
    if (!whole && !edge) { return not_a_number(); }
    return select(y, -y, whole && abs(b - 2.0 * floor(b * 0.5)) == 1.0);
  }`;

/**
 * The error function, to about 1e-7 absolute: its series near 0, and elsewhere 1 − exp(−x²)·t·P(t).
 *
 * @see Abramowitz & Stegun 7.1.5; the rational tail is W. J. Cody's form as given in Numerical Recipes, 6.2 (erfcc)
 */
export const erfHelper = `
  fn erf_(x: T) -> T {
    let a = min(abs(x), T(6.0));
    let s = a * a;
    let near = a * (1.1283791670955126 + s * (-0.37612638903183754 + s * (0.11283791670955126 + s * (-0.026866170645131252
      + s * (0.005223977625442187 + s * (-0.0008548327023450852 + s * (0.00012055332981789664
      + s * -0.000014925650358406252)))))));
    let t = 1.0 / (1.0 + 0.5 * a);
    let tail = t * exp(-s - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
      + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277)))))))));
    return select(sign(x) * select(1.0 - tail, near, a < T(0.8)), x, is_nan(x));
  }`;

/** Whether a scalar is NaN, told by its bits: compilers may take `x != x` for false. */
export const isNanHelper = `
  fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`;

/**
 * A number as a u32 of the same order, by the bits it is stored in: 0 and −0 alike, NaN above everything, in either
 * direction.
 *
 * @param type  what `load` gives: f32, i32 or u32
 * @param sign  -1 turns the order round, all but that of NaN
 */
export const orderHelper = (type: "f32" | "i32" | "u32", sign: 1 | -1): string => {
  const turned = sign < 0 ? "~ordered" : "ordered";
  if (type !== "f32") {
    return `fn order(x: ${type}) -> u32 {
      let ordered = ${type === "i32" ? "bitcast<u32>(x) ^ 0x80000000u" : "x"};
      return ${turned};
    }`;
  }
  return `fn order(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    let ordered = select(bits | 0x80000000u, 0x80000000u - (bits & 0x7fffffffu), bits >= 0x80000000u);
    return ${turned};
  }`;
};
