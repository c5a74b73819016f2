/** WGSL functions over `T` (f32 or vec4f) that the language lacks or that adapters round badly. */

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

/** exp(x) − 1 without cancellation near 0. */
export const expm1Helper = `
  fn expm1_(x: T) -> T {
    let near = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.008333334 + x * 0.0013888889)))));
    return select(exp(x) - 1.0, near, abs(x) < T(0.3));
  }`;

/** log(1 + x) without cancellation near 0: the error of 1 + x is divided out. */
export const log1pHelper = `
  fn log1p_(x: T) -> T {
    let near = x * (1.0 + x * (-0.5 + x * (0.33333333 + x * (-0.25 + x * (0.2 + x * (-0.16666667 + x * 0.14285714))))));
    return select(log(1.0 + x), near, abs(x) < T(0.1));
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
