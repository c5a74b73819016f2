/**
 * A character-level transformer on three sonnets, in the primitives of the package. Two blocks of width 64 learn in under
 * two minutes on a software adapter to go on from "Shall I compare".
 *
 * Axes: B sequences · L characters · D width · H heads · K head width · V characters in use
 */
import { readFileSync } from "node:fs";
import {
  AdamW,
  arange,
  backward,
  crossEntropy,
  gatherRows,
  layerNorm,
  matmul,
  ones,
  openDevice,
  randn,
  requireGrad,
  scope,
  tensor,
  type Tensor,
  untaped,
  where,
  zeros,
} from "@rot/tensor";

const [B, L, D, H] = [8, 48, 64, 4];
const steps = 700;

const text = readFileSync(new URL("sonnets.txt", import.meta.url), "utf8");
const alphabet = [...new Set(text)].toSorted();
const codes = Int32Array.from(text, (character) => alphabet.indexOf(character));
const V = alphabet.length;

using device = await openDevice();

let seed = 0;
const parameters: Tensor[] = [];
const parameter = (value: Tensor): Tensor => (parameters.push(requireGrad(value)), value);
const weight = (outputs: number, inputs: number): Tensor =>
  parameter(
    randn(device, [outputs, inputs], { seed: seed++ })
      .mul(inputs ** -0.5)
      .detach(),
  );
const norm = () => ({ gain: parameter(ones(device, [D])), shift: parameter(zeros(device, [D])) });

const embedding = parameter(randn(device, [V, D], { seed: seed++ }).mul(0.1).detach());
const position = parameter(randn(device, [L, D], { seed: seed++ }).mul(0.1).detach());
const blocks = [0, 1].map(() => ({
  before: norm(),
  q: weight(D, D),
  k: weight(D, D),
  v: weight(D, D),
  o: weight(D, D),
  between: norm(),
  up: weight(4 * D, D),
  down: weight(D, 4 * D),
}));
const last = norm();

/** 0 where a character may look, −∞ (as good as) where it would see the future. */
const future = arange(device, 0, L)
  .unsqueeze(0)
  .gt(arange(device, 0, L).unsqueeze(1));

/** [B, L] → [B, L, V] */
function model(tokens: Tensor): Tensor {
  const { B } = tokens.dims("B L");
  const heads = (x: Tensor): Tensor => x.reshape(B, L, H, D / H).permute(0, 2, 1, 3);
  let x = gatherRows(embedding, tokens).add(position);
  for (const { before, q, k, v, o, between, up, down } of blocks) {
    const h = layerNorm(x, before.gain, before.shift, 1e-5);
    const project = (w: Tensor): Tensor => heads(matmul(h, w, { transposeB: true }));
    const scores = matmul(project(q), project(k), { transposeB: true }).mul((D / H) ** -0.5);
    const mixed = matmul(where(future, -1e9, scores).softmax(), project(v));
    x = x.add(matmul(mixed.permute(0, 2, 1, 3).reshape(B, L, D), o, { transposeB: true }));
    const wide = matmul(layerNorm(x, between.gain, between.shift, 1e-5), up, { transposeB: true });
    x = x.add(matmul(wide.gelu(), down, { transposeB: true }));
  }
  return matmul(layerNorm(x, last.gain, last.shift, 1e-5), embedding, { transposeB: true });
}

/** A window of the text for each of B places, and the same one character later. */
function batch(step: number): { tokens: Tensor; next: Tensor } {
  const at = Array.from({ length: B }, (_, b) => (step * 7919 + b * 104_729) % (codes.length - L - 1));
  const windows = (shift: number): Int32Array =>
    Int32Array.from(at.flatMap((from) => [...codes.subarray(from + shift, from + shift + L)]));
  return {
    tokens: tensor(device, windows(0), { shape: [B, L] }),
    next: tensor(device, windows(1), { shape: [B * L] }),
  };
}

const optimizer = new AdamW(parameters, { lr: 3e-3, weightDecay: 0.01 });
for (let step = 0; step < steps; step++) {
  optimizer.lr = 3e-3 * Math.min(1, (step + 1) / 20) * (1 - (0.9 * step) / steps);
  const loss = scope(() => {
    const { tokens, next } = batch(step);
    const loss = crossEntropy(model(tokens).reshape(B * L, V), next);
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  if (step % 50 === 0 || step === steps - 1)
    console.log(`step ${step}: ${(await loss.item()).toFixed(3)} nats a character`);
  loss.dispose();
}

let written = "Shall I compare";
while (written.length < 60) {
  const seen = written.slice(-L);
  const tokens = tensor(
    device,
    Int32Array.from(seen.padEnd(L), (c) => alphabet.indexOf(c)),
    { shape: [1, L] },
  );
  const logits = await untaped(() => scope(() => model(tokens))).read();
  const row = [...logits.subarray((seen.length - 1) * V, seen.length * V)];
  written += alphabet[row.indexOf(Math.max(...row))];
}
console.log(written);
