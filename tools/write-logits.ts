/**
 * Writes what a checkpoint answers to fixed tokens, for `verify-exports.py`:
 *
 *   npx tsx --conditions=@rot/source tools/write-logits.ts CHECKPOINT|RUN|MODEL OUTPUT.safetensors [BASE]
 */
import { openBundle } from "@rot/rot/node";
import { tensorSource } from "@rot/models";
import { openDevice, type Tensor, tensor } from "@rot/tensor";
import { writeSafetensors } from "@rot/tensor/safetensors";
import { writeFileAtomically } from "@rot/tensor/safetensors/node";

const [path, output, base] = process.argv.slice(2);
if (path === undefined || output === undefined) throw new Error("write-logits.ts CHECKPOINT OUTPUT.safetensors [BASE]");

const device = await openDevice();
const bundle = await openBundle(path, device, { base });
const { model } = bundle.pretrained;
const { markers } = bundle.config;

const text = Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % Math.min(model.vocabulary, markers?.begin ?? 256));
const marked = markers ? [...text, markers.begin, markers.end, 5] : text;

/** Hidden states [L, D] and logits [L, V] of a sequence. */
function answer(ids: readonly number[]): { hidden: Tensor; logits: Tensor } {
  const hidden = model.forward(model.embed(tensor(device, Int32Array.from(ids), { shape: [1, ids.length] })));
  return { hidden: hidden.reshape(ids.length, -1), logits: model.logits(hidden).reshape(ids.length, -1) };
}

const [plain, reasoning] = [answer(text), answer(marked)];
const tensors: Record<string, Tensor> = {
  "text.ids": tensor(device, Int32Array.from(text)),
  "text.logits": plain.logits,
  "marked.ids": tensor(device, Int32Array.from(marked)),
  "marked.logits": reasoning.logits,
  "marked.hidden": reasoning.hidden,
  ...(bundle.source && { "marked.latents": bundle.source(reasoning.hidden) }),
};
const sources = Object.entries(tensors).map(([name, value]) => tensorSource(name, value as Tensor<"f32">));
await writeFileAtomically(output, writeSafetensors(sources));
bundle.dispose();
device.destroy();
