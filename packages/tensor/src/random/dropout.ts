/** Dropout whose mask is never stored: it is a function of a key, made again on the way back. */
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp } from "../op.ts";
import { print, size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { main, wgsl } from "../wgsl.ts";
import { chance } from "./draw.ts";
import { key, keyUniforms, type RandomKey, type Seed } from "./key.ts";
import { philoxFunctions } from "./philox.wgsl.ts";

/** One Philox block decides over four neighbours of one row. */
const mask = <I extends "x" | "samples">(...inputs: I[]) =>
  defineKernel({
    name: "dropout",
    inputs,
    outputs: ["y"],
    uniforms: {
      width: "u32",
      blocks: "u32",
      count: "u32",
      scale: "f32",
      threshold: "u32",
      always: "u32",
      ...keyUniforms,
    },
    knobs: {},
    source: (bindings) => wgsl`
      ${bindings}
      ${philoxFunctions}
      ${main(64)}
        let at = group * 64u + lane;
        if (at >= u.count) { return; }
        let row = at / u.blocks;
        let block = at % u.blocks;
        let sample = ${inputs.length === 2 ? "u32(load_samples(row))" : "u.sample"};
        let words = philox(vec4u(block, sample, u.step, 0u), vec2u(u.key0, u.key1));
        for (var k = 0u; k < 4u; k++) {
          let column = block * 4u + k;
          if (column >= u.width) { break; }
          let i = row * u.width + column;
          let dropped = u.always == 1u || words[k] < u.threshold;
          store_y(i, select(load_x(i) * u.scale, 0.0, dropped));
        }
      }`,
    grid: ({ count }) => Math.ceil(count / 64),
  });
const [plain, perSample] = [mask("x"), mask("x", "samples")];

interface Params {
  readonly p: number;
  readonly from: RandomKey;
}

function apply(x: Tensor, samples: Tensor | undefined, { p, from }: Params): Tensor {
  const rows = samples ? samples.size : 1;
  const width = rows === 0 ? 0 : size(x.shape) / rows;
  const blocks = Math.ceil(width / 4);
  const scale = p === 1 ? 0 : 1 / (1 - p);
  const uniforms = { width, blocks, count: rows * blocks, scale, ...chance(p, "dropout"), ...from.uniforms };
  const outputs = { y: x };
  return samples ? perSample({ x, samples }, outputs, uniforms).y : plain({ x }, outputs, uniforms).y;
}

const op = defineOp<[x: Tensor], Params>({
  name: "dropout",
  forward: ([x], params) => apply(x, undefined, params),
  saves: { inputs: [false], output: false },
  vjp: (_, params, __, dy) => [apply(dy, undefined, params)],
});

const sampleOp = defineOp<[x: Tensor, samples: Tensor], Params>({
  name: "dropout",
  forward: ([x, samples], params) => apply(x, samples, params),
  saves: { inputs: [false, true], output: false },
  vjp: ([, samples], params, _, dy) => [apply(dy, samples, params), null],
});

/**
 * Sets each element to 0 with probability `p` and multiplies the others by 1 / (1 − p), so that the mean stays.
 *
 * Whether element `i` is dropped depends on the key and on `i` alone; with `samples`, on the key, the sample's number and
 * the place within the sample, so that a sample loses the same elements in any batch. A dropped NaN or infinity becomes 0.
 *
 * @param x        [...], or [B, ...] with `samples`; a float
 * @param p        from 0, which returns `x` itself, to 1, which drops everything
 * @param seed     one for each call: `key(7).for("layers.3.dropout", step)`
 * @param samples  [B], i32 or u32: the number of each sample of the batch
 * @returns        the shape and dtype of `x`
 * @throws {UsageError} when `p` is not between 0 and 1
 * @throws {ShapeError} when `x` is no float or `samples` does not number the first axis
 * @see Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html
 */
export function dropout(x: Tensor, p: number, seed: Seed, samples?: Tensor): Tensor {
  const params = { p, from: key(seed) };
  chance(p, "dropout");
  if (!isFloat(x.dtype)) throw new ShapeError(`dropout: x is ${print(x.shape)} ${x.dtype}, not a float`);
  if (!samples) return p === 0 ? x : op(x, params);
  const integer = samples.dtype === "i32" || samples.dtype === "u32";
  if (!integer || samples.rank !== 1 || samples.shape[0] !== x.shape[0]) {
    throw new ShapeError(
      `dropout: samples is ${print(samples.shape)} ${samples.dtype}, but must number the first axis of x ${print(x.shape)}`,
    );
  }
  return p === 0 ? x : sampleOp(x, samples, params);
}
