/**
 * WGSL that leaves in `mean` and `scale` the mean of a row and 1 / √(variance + eps), in one reading of the row.
 *
 * Each lane keeps a running mean and the squares around it, so that a mean far from 0 costs no precision; the lanes then
 * weigh theirs by how many elements they saw.
 *
 * @param lanes  invocations that share the row
 */
export const rowStatistics = (lanes: number): string => `
  var means = V();
  var squares = V();
  var seen = 0.0;
  for (var i = own; i < steps; i += ${lanes}u) {
    let x = load_x(start + i);
    seen += 1.0;
    let off = x - means;
    means += off / seen;
    squares += off * (x - means);
  }
  let count = f32(u.width);
  let mean = row_sum(across(means) * seen, lane) / count;
  let apart = means - mean;
  let scale = inverseSqrt(row_sum(across(squares + seen * apart * apart), lane) / count + u.eps);`;
