/** `README.md` of an export: what it is, how it is used, and what is known of its training. */
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { stringify } from "yaml";
import { parseJson } from "../../node/json.ts";
import { runConfigOf } from "../../train/node/run-manifest.ts";
import type { ExportSource } from "./source.ts";

/** Where checkpoints can be exported to. */
export const exportFormats = ["reference", "peft", "huggingface"] as const;
export type ExportFormat = (typeof exportFormats)[number];

/** What each format needs, in words and code. */
const usage: { readonly [F in ExportFormat]: (base: string) => string } = {
  reference: () =>
    `In the layout of the published Render-of-Thought code: give this folder as its stage-1 checkpoint and as the one that is evaluated. The optimizer's state is not part of it. \`img_emb\` in \`special_tokens.bin\` is the row of \`<img>\`, which that code draws anew each time and does not read.`,
  peft: (base) => `\`\`\`python
from peft import PeftModel
from transformers import AutoModelForImageTextToText

base = AutoModelForImageTextToText.from_pretrained(${JSON.stringify(base)})
model = PeftModel.from_pretrained(base, "path/to/this/folder")
\`\`\`

The adapter changes the decoder's linears only. Latent reasoning also needs the rows of \`<img_begin>\` and \`<img_end>\` in \`markers.safetensors\` and the projection head in \`projection_head.safetensors\`, which PEFT does not load.`,
  huggingface: () => `\`\`\`python
from transformers import AutoModelForImageTextToText, AutoTokenizer

model = AutoModelForImageTextToText.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
\`\`\`

All weights are merged. Plain transformers writes text; for latent reasoning each last hidden state after \`<img_begin>\` goes through the projection head in \`projection_head.safetensors\` and back in as the next embedding.`,
};

/** The text of the card. */
export async function modelCard(source: ExportSource, format: ExportFormat): Promise<string> {
  const { config, step, base, folder } = source;
  const name = basename(base.folder);
  const run = dirname(dirname(folder));
  const license = await licenseOf(base.folder);
  const head = {
    library_name: format === "peft" ? "peft" : "transformers",
    pipeline_tag: "image-text-to-text",
    license: license ?? "other",
    ...(license === null && { license_name: "that-of-the-base-model" }),
    tags: ["render-of-thought", "latent-reasoning", ...(config.mode === "lora" ? ["lora"] : [])],
  };
  const settings = await trainingConfig(folder);
  const metrics = await metricsTable(join(run, "metrics.jsonl"), step);
  const parts = [
    `---\n${stringify(head)}---`,
    `# Render of Thought on ${name}`,
    `A checkpoint of mode \`${config.mode}\` after ${step} steps, exported by rot-cli as \`${format}\`.`,
    "## Use",
    usage[format](name),
    "## Model",
    `- base model: \`${name}\`, SHA-256 of its weights' fingerprint \`${config.base.weights}\`
- markers: ${config.markers ? `\`<img_begin>\` ${config.markers.begin}, \`<img_end>\` ${config.markers.end}` : "none"}
- projection head: ${config.head ? `${config.head.width} → ${config.head.hidden} → ${config.head.width}, ${config.head.activation}` : "none"}
- latents: ${config.latents ? `\`${JSON.stringify(config.latents)}\`` : "none"}
- answers: ${config.answerStyle}`,
    ...(metrics === null ? [] : ["## Metrics", metrics]),
    ...(settings === null ? [] : ["## Configuration", `\`\`\`yaml\n${settings}\`\`\``]),
    "## Licence",
    license === null
      ? "The folder of the base model does not state its licence. This model is derived from it: look it up before you share this one."
      : `The base model states the licence \`${license}\`, and this model is derived from it.`,
  ];
  return `${parts.join("\n\n")}\n`;
}

/** The licence in the YAML head of the base's own card. */
async function licenseOf(folder: string): Promise<string | null> {
  const text = await textOf(join(folder, "README.md"));
  const [, head = ""] = /^---\r?\n([\s\S]{0,20000}?)\r?\n---/.exec(text ?? "") ?? [];
  return /^license:[ \t]*([\w.+-]{1,60})[ \t]*$/m.exec(head)?.[1] ?? null;
}

/** How it was trained, without the paths of the machine. */
async function trainingConfig(checkpoint: string): Promise<string | null> {
  const config = await runConfigOf(checkpoint);
  if (config === null) return null;
  const { model, data, rendering, stage1_checkpoint: _stage1, output: _output, ...rest } = config;
  const { font } = rendering;
  return stringify({
    model: basename(model),
    data: { ...data, dataset: basename(data.dataset) },
    rendering: { ...rendering, font: font && basename(font) },
    ...rest,
  });
}

/** The last line of training and of validation up to a step, as a table. */
async function metricsTable(path: string, step: number): Promise<string | null> {
  const text = await textOf(path);
  if (text === null) return null;
  const last = new Map<string, number>();
  for (const line of text.split("\n")) {
    const row = parseJson(line) as Record<string, unknown> | null;
    if (!row || typeof row["step"] !== "number" || row["step"] > step) continue;
    for (const [name, value] of Object.entries(row)) {
      if (typeof value === "number" && name !== "step") last.set(name, value);
    }
  }
  if (last.size === 0) return null;
  const rows = [...last].map(
    ([name, value]) => `| ${name.replaceAll(/[^\w.]/g, " ")} | ${Number(value.toPrecision(5))} |`,
  );
  return [`| at step ${step} | |`, "| --- | --- |", ...rows].join("\n");
}

const textOf = (path: string): Promise<string | null> =>
  readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
