/** An op of one's own: a WGSL kernel for softplus, its gradient, and a knob, made as the package makes its own. */
import { defineOp, grad, openDevice, requireGrad, tensor, type Tensor } from "@rot/tensor";
import { defineKernel, main, wgsl } from "@rot/tensor/kernel";

const elementwise = (name: string, expression: string, inputs: ("x" | "dy")[]) =>
  defineKernel({
    name,
    inputs,
    outputs: ["y"],
    uniforms: { n: "u32" },
    knobs: { lanes: [64, 256] },
    source: (bindings, { lanes }) => wgsl`
      ${bindings}
      ${main(lanes)}
        let i = group * ${lanes}u + lane;
        if (i < u.n) { store_y(i, ${expression}); }
      }`,
    grid: ({ n }, { lanes }) => Math.ceil(n / lanes),
  });

const forward = elementwise("softplus", "log(1.0 + exp(load_x(i)))", ["x"]);
const backward = elementwise("softplus.vjp", "load_dy(i) / (1.0 + exp(-load_x(i)))", ["x", "dy"]);

/** log(1 + eˣ): a smooth relu. */
const softplus = defineOp<[x: Tensor]>({
  name: "softplus",
  forward: ([x]) => forward({ x, dy: x }, { y: x }, { n: x.size }).y,
  saves: { output: false },
  vjp: ([x], _, __, dy) => [backward({ x, dy }, { y: x }, { n: x.size }).y],
});

using device = await openDevice();
const x = requireGrad(tensor(device, [-2, -1, 0, 1, 2]));
const y = softplus(x, undefined);
const [slope] = grad(y.sum(), [x]) as [Tensor];
console.log(await y.text());
console.log(await slope.text());
