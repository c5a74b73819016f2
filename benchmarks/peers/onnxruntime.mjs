/**
 * ONNX Runtime: `node onnxruntime.mjs webgpu|cpu`. Both are native; on WebGPU inputs and results cross over to the CPU in
 * every run, for this binding keeps none on the device but weights.
 */
import { createRequire } from "node:module";
import { encodeModel } from "./lib/onnx.mjs";
import { noise, serve, size } from "./lib/serve.mjs";

const require = createRequire(import.meta.url);
const ort = require("onnxruntime-node");
const { version } = require("onnxruntime-node/package.json");
const backend = process.argv[2];

const draw = (shape, seed) => new ort.Tensor("float32", noise(size(shape), seed), shape);

/** A graph whose result is `y`. */
async function session({ nodes, inputs, weights = {}, output }) {
  const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { dims }]) => [name, dims]));
  const model = encodeModel({ nodes, inputs: shapes, weights, output });
  const made = await ort.InferenceSession.create(model, {
    executionProviders: [backend],
    logSeverityLevel: 3,
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  });
  const run = () => made.run(inputs);
  return { run, result: async () => (await run()).y.data, dispose: () => made.release() };
}

const product = (n, node) =>
  session({
    nodes: [node],
    inputs: { a: draw([1, n], 1) },
    weights: { b: { shape: [n, n], values: noise(n * n, 2) } },
    output: [1, n],
  });

await serve(version, {
  matmul: ({ n }) =>
    session({
      nodes: [{ op: "MatMul", inputs: ["a", "b"], output: "y" }],
      inputs: { a: draw([n, n], 1), b: draw([n, n], 2) },
      output: [n, n],
    }),
  matvec: ({ n }) => product(n, { op: "MatMul", inputs: ["a", "b"], output: "y" }),
  "matvec-transposed": ({ n }) =>
    product(n, { op: "Gemm", inputs: ["a", "b"], output: "y", attributes: { transB: 1 } }),

  attention({ length: L, heads: H, groups: G, width: K }) {
    // It has no groups: keys and values are spread here, which is not timed.
    const spread = (seed) => {
      const few = noise(L * G * K, seed);
      const many = new Float32Array(L * H * K);
      for (let row = 0; row < L * H; row++) {
        const from = (Math.floor(row / H) * G + Math.floor((row % H) / (H / G))) * K;
        many.set(few.subarray(from, from + K), row * K);
      }
      return new ort.Tensor("float32", many, [1, L, H * K]);
    };
    return session({
      nodes: [
        {
          op: "MultiHeadAttention",
          domain: "com.microsoft",
          inputs: ["q", "k", "v"],
          output: "y",
          attributes: { num_heads: H, unidirectional: 1 },
        },
      ],
      inputs: { q: draw([1, L, H * K], 1), k: spread(2), v: spread(3) },
      output: [1, L, H * K],
    });
  },

  "rms-norm": ({ rows, width }) =>
    session({
      nodes: [
        {
          op: "SimplifiedLayerNormalization",
          inputs: ["x", "w"],
          output: "y",
          attributes: { axis: -1, epsilon: { float: 1e-6 } },
        },
      ],
      inputs: { x: draw([rows, width], 1), w: draw([width], 2) },
      output: [rows, width],
    }),

  softmax: ({ rows, width }) =>
    session({
      nodes: [{ op: "Softmax", inputs: ["x"], output: "y", attributes: { axis: -1 } }],
      inputs: { x: draw([rows, width], 1) },
      output: [rows, width],
    }),

  add: ({ n }) =>
    session({
      nodes: [{ op: "Add", inputs: ["a", "b"], output: "y" }],
      inputs: { a: draw([n], 1), b: draw([n], 2) },
      output: [n],
    }),

  dispatches({ count, width }) {
    const name = (i) => (i === count ? "y" : `x${i}`);
    const weights = Object.fromEntries(
      Array.from({ length: count }, (_, i) => [`c${i}`, { shape: [1], values: new Float32Array([1e-3 * (i + 1)]) }]),
    );
    const nodes = Array.from({ length: count }, (_, i) => ({
      op: "Add",
      inputs: [name(i), `c${i}`],
      output: name(i + 1),
    }));
    return session({ nodes, inputs: { x0: draw([width], 1) }, weights, output: [width] });
  },
});
