/** TensorFlow.js: `node tfjs.mjs webgpu|wasm`. */
import { createRequire } from "node:module";
import { noise, serve, size, tokens, transformerParameters } from "./lib/serve.mjs";
import { provideGpu } from "./lib/webgpu.mjs";

const require = createRequire(import.meta.url);
const backend = process.argv[2];
const gpu = backend === "webgpu" ? provideGpu() : null;
const tf = require("@tensorflow/tfjs");
let device = null;
if (gpu) {
  const { WebGPUBackend } = require("@tensorflow/tfjs-backend-webgpu");
  tf.env().set("WEBGPU_CPU_FORWARD", false);
  const adapter = await gpu.requestAdapter();
  const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  device = await adapter.requestDevice({ requiredLimits: { maxStorageBufferBindingSize, maxBufferSize } });
  tf.removeBackend("webgpu");
  tf.registerBackend("webgpu", () => new WebGPUBackend(device, adapter.info), 3);
} else {
  require("@tensorflow/tfjs-backend-wasm");
}
await tf.setBackend(backend);
await tf.ready();

/** Its queue sends an open pass only when it is ended by hand. */
async function sync() {
  if (!device) return;
  const { commandEncoder } = tf.backend();
  if (commandEncoder) {
    tf.backend().endComputePassEncoder();
    tf.backend().submitQueue();
  }
  await device.queue.onSubmittedWorkDone();
}

const draw = (shape, seed) => tf.tensor(noise(size(shape), seed), shape);

const once = (inputs, f) => ({
  run: () => tf.tidy(f).dispose(),
  sync,
  async result() {
    const y = tf.tidy(f);
    const values = await y.data();
    y.dispose();
    return values;
  },
  dispose: () => tf.dispose(inputs),
});

const matmulOf = (shapes, transposed = false) => {
  const [a, b] = shapes.map((shape, i) => draw(shape, i + 1));
  return once([a, b], () => tf.matMul(a, b, false, transposed));
};

const norm = (x, weight) => x.mul(x.square().mean(-1, true).add(1e-6).rsqrt()).mul(weight);

const causalMask = (L) =>
  tf.tensor2d(
    Float32Array.from({ length: L * L }, (_, i) => (i % L > Math.floor(i / L) ? -1e9 : 0)),
    [L, L],
  );

/** q, k, v as [heads, tokens, width]. */
const attend = (q, k, v, mask) =>
  tf.matMul(
    tf.softmax(
      tf
        .matMul(q, k, false, true)
        .mul(q.shape[2] ** -0.5)
        .add(mask),
    ),
    v,
  );

function training(variables, loss) {
  let first;
  const run = async () => {
    const { value, grads } = tf.variableGrads(loss, variables);
    tf.tidy(() => {
      for (const variable of variables) variable.assign(variable.sub(grads[variable.name].mul(0.1)));
    });
    first ??= await value.data();
    await value.data();
    tf.dispose([value, grads]);
  };
  return {
    run,
    sync,
    async result() {
      await run();
      return first;
    },
    dispose: () => tf.dispose(variables),
  };
}

await serve(tf.version.tfjs, {
  matmul: ({ n }) =>
    matmulOf([
      [n, n],
      [n, n],
    ]),
  matvec: ({ n }) =>
    matmulOf([
      [1, n],
      [n, n],
    ]),
  "matvec-transposed": ({ n }) =>
    matmulOf(
      [
        [1, n],
        [n, n],
      ],
      true,
    ),

  attention({ length: L, heads: H, groups: G, width: K }) {
    const [q, k, v] = [draw([L, H, K], 1), draw([L, G, K], 2), draw([L, G, K], 3)];
    const mask = causalMask(L);
    const spread = (x) =>
      x
        .transpose([1, 0, 2])
        .expandDims(1)
        .tile([1, H / G, 1, 1])
        .reshape([H, L, K]);
    const f = () => attend(q.transpose([1, 0, 2]), spread(k), spread(v), mask).transpose([1, 0, 2]);
    return once([q, k, v, mask], f);
  },

  "rms-norm"({ rows, width }) {
    const [x, weight] = [draw([rows, width], 1), draw([width], 2)];
    return once([x, weight], () => norm(x, weight));
  },

  softmax({ rows, width }) {
    const x = draw([rows, width], 1);
    return once([x], () => tf.softmax(x));
  },

  add({ n }) {
    const [a, b] = [draw([n], 1), draw([n], 2)];
    return once([a, b], () => a.add(b));
  },

  dispatches({ count, width }) {
    const start = draw([width], 1);
    return once([start], () => {
      let x = start;
      for (let i = 0; i < count; i++) {
        const next = x.add(1e-3 * (i + 1));
        if (x !== start) x.dispose();
        x = next;
      }
      return x;
    });
  },

  mlp({ batch, width, hidden }) {
    const [x, y] = [draw([batch, width], 1), draw([batch, width], 2)];
    const weight = (shape, seed) => tf.variable(tf.tidy(() => draw(shape, seed).mul(0.1)));
    const [up, down] = [weight([width, hidden], 3), weight([hidden, width], 4)];
    return training([up, down], () =>
      tf
        .matMul(tf.relu(tf.matMul(x, up)), down)
        .sub(y)
        .square()
        .mean(),
    );
  },

  transformer(sizes) {
    const { tokens: L, width: D, heads: H, vocabulary: V } = sizes;
    const variables = [];
    const variable = (make) => {
      const made = tf.variable(tf.tidy(make));
      variables.push(made);
      return made;
    };
    const { table, head, last, blocks } = transformerParameters(
      sizes,
      (shape, seed) => variable(() => draw(shape, seed).mul(0.2)),
      (shape) => variable(() => tf.ones(shape)),
    );
    const oneHot = (ids) => tf.oneHot(tf.tensor1d(ids, "int32"), V).toFloat();
    const [ids, targets, mask] = [oneHot(tokens(L, V)), oneHot(tokens(L, V, 1)), causalMask(L)];
    const heads = (x) => x.reshape([L, H, D / H]).transpose([1, 0, 2]);
    return training(variables, () => {
      let x = tf.matMul(ids, table);
      for (const { q, k, v, o, gate, up, down, before, between } of blocks) {
        const h = norm(x, before);
        const [queries, keys, values] = [q, k, v].map((w) => heads(tf.matMul(h, w)));
        x = x.add(tf.matMul(attend(queries, keys, values, mask).transpose([1, 0, 2]).reshape([L, D]), o));
        const inner = norm(x, between);
        const gated = tf.matMul(inner, gate);
        x = x.add(tf.matMul(gated.mul(gated.sigmoid()).mul(tf.matMul(inner, up)), down));
      }
      return tf
        .logSoftmax(tf.matMul(norm(x, last), head))
        .mul(targets)
        .sum(-1)
        .mean()
        .neg();
    });
  },
});
