/** jax-js: `node jax-js.mjs webgpu|wasm`. */
import { readFileSync } from "node:fs";
import "./lib/iterator-helpers.mjs";
import { noise, serve, size, tokens, transformerParameters } from "./lib/serve.mjs";
import { provideGpu } from "./lib/webgpu.mjs";

const backend = process.argv[2];
if (backend === "webgpu") provideGpu();
const jax = await import("@jax-js/jax");
await jax.init(backend);
jax.defaultDevice(backend);
const { numpy: np, nn, jit, valueAndGrad, tree } = jax;

const draw = (shape, seed) => np.array(noise(size(shape), seed)).reshape(shape);

/** Its arrays are used up by what takes them; `ref` keeps one. */
const once = (inputs, f) => {
  const call = () => f(...inputs.map((x) => x.ref));
  let waiting = [];
  return {
    run: () => void waiting.push(call()),
    async sync() {
      for (const y of waiting) {
        await y.blockUntilReady();
        y.dispose();
      }
      waiting = [];
    },
    result: () => call().data(),
    dispose: () => inputs.forEach((x) => x.dispose()),
  };
};

const compiled = (shapes, f) =>
  once(
    shapes.map((shape, i) => draw(shape, i + 1)),
    jit(f),
  );

const norm = (x, weight) => {
  const square = np.mean(np.square(x.ref), -1, { keepdims: true }).add(1e-6);
  return x.mul(np.reciprocal(np.sqrt(square))).mul(weight);
};

function training(start, loss, data) {
  const step = jit((parameters, ...inputs) => {
    const [value, gradients] = valueAndGrad(loss)(tree.ref(parameters), ...inputs);
    return [value, tree.map((p, g) => p.sub(g.mul(0.1)), parameters, gradients)];
  });
  let parameters = start;
  let first;
  const run = async () => {
    const [value, next] = step(parameters, ...data.map((x) => x.ref));
    parameters = next;
    const loss = await value.data();
    first ??= loss;
  };
  return {
    run,
    sync: async () => void (await tree.leaves(parameters).at(-1).blockUntilReady()),
    async result() {
      await run();
      return first;
    },
    dispose: () => tree.dispose(parameters),
  };
}

const manifest = new URL("node_modules/@jax-js/jax/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8"));
await serve(version, {
  matmul: ({ n }) =>
    compiled(
      [
        [n, n],
        [n, n],
      ],
      (a, b) => np.matmul(a, b),
    ),
  matvec: ({ n }) =>
    compiled(
      [
        [1, n],
        [n, n],
      ],
      (x, w) => np.matmul(x, w),
    ),
  "matvec-transposed": ({ n }) =>
    compiled(
      [
        [1, n],
        [n, n],
      ],
      (x, w) => np.matmul(x, np.transpose(w)),
    ),

  attention: ({ length: L, heads: H, groups: G, width: K }) =>
    compiled(
      [
        [1, L, H, K],
        [1, L, G, K],
        [1, L, G, K],
      ],
      (q, k, v) => nn.dotProductAttention(q, k, v, { isCausal: true }),
    ),

  "rms-norm": ({ rows, width }) => compiled([[rows, width], [width]], norm),
  softmax: ({ rows, width }) => compiled([[rows, width]], (x) => nn.softmax(x, -1)),
  add: ({ n }) => compiled([[n], [n]], (a, b) => a.add(b)),

  dispatches({ count, width }) {
    return once([draw([width], 1)], (start) => {
      let x = start;
      for (let i = 0; i < count; i++) x = x.add(1e-3 * (i + 1));
      return x;
    });
  },

  mlp({ batch, width, hidden }) {
    const parameters = { up: draw([width, hidden], 3).mul(0.1), down: draw([hidden, width], 4).mul(0.1) };
    const loss = ({ up, down }, x, y) => np.mean(np.square(np.matmul(nn.relu(np.matmul(x, up)), down).sub(y)));
    return training(parameters, loss, [draw([batch, width], 1), draw([batch, width], 2)]);
  },

  transformer(sizes) {
    const { tokens: L, width: D, heads: H, vocabulary: V } = sizes;
    const parameters = transformerParameters(
      sizes,
      (shape, seed) => draw(shape, seed).mul(0.2),
      (shape) => np.ones(shape),
    );
    const oneHot = (ids) => nn.oneHot(np.array(ids, { dtype: np.int32 }), V);
    const loss = ({ table, head, last, blocks }, ids, targets) => {
      let x = np.matmul(ids, table);
      for (const { q, k, v, o, gate, up, down, before, between } of blocks) {
        const h = norm(x.ref, before);
        const [queries, keys, values] = [
          [h.ref, q],
          [h.ref, k],
          [h, v],
        ].map(([input, w]) => np.matmul(input, w).reshape([1, L, H, D / H]));
        const attended = nn.dotProductAttention(queries, keys, values, { isCausal: true }).reshape([L, D]);
        x = x.add(np.matmul(attended, o));
        const inner = norm(x.ref, between);
        x = x.add(np.matmul(nn.silu(np.matmul(inner.ref, gate)).mul(np.matmul(inner, up)), down));
      }
      const logits = np.matmul(norm(x, last), head);
      return np.mean(np.sum(nn.logSoftmax(logits, -1).mul(targets), -1)).mul(-1);
    };
    return training(parameters, loss, [oneHot(tokens(L, V)), oneHot(tokens(L, V, 1))]);
  },
});
