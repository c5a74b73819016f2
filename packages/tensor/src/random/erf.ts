/** The error function on the host and its inverse on the device: what a truncated normal is cut with. */

/**
 * erf(x) in double precision: 2/√π · e^(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!, whose terms all have one sign.
 *
 * @see Abramowitz & Stegun 7.1.6
 */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    total += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
}

/**
 * `inverse_erf(x: vec4f) -> vec4f`, to about 1e-6 relative; x outside ±(1 − 2⁻²⁴) is taken for that.
 *
 * @see Giles 2010, "Approximating the erfinv function", single precision, https://people.maths.ox.ac.uk/gilesm/files/gems_erfinv.pdf
 */
export const inverseErf = `
  fn inverse_erf(y: vec4f) -> vec4f {
    let x = clamp(y, vec4f(-0.99999994), vec4f(0.99999994));
    let w = -log((1.0 - x) * (1.0 + x));
    let a = w - 2.5;
    let near = 1.50140941 + a * (0.246640727 + a * (-0.00417768164 + a * (-0.00125372503 + a * (0.00021858087
      + a * (-4.39150654e-06 + a * (-3.5233877e-06 + a * (3.43273939e-07 + a * 2.81022636e-08)))))));
    let b = sqrt(max(w, vec4f(0.0))) - 3.0;
    let far = 2.83297682 + b * (1.00167406 + b * (0.00943887047 + b * (-0.0076224613 + b * (0.00573950773
      + b * (-0.00367342844 + b * (0.00134934322 + b * (0.000100950558 + b * -0.000200214257)))))));
    return x * select(far, near, w < vec4f(5.0));
  }`;
