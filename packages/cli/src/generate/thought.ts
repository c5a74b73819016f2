/** What is shown of the latents of a question: as lines of text, as JSON, as a page, as a picture. */
import { extname } from "node:path";
import {
  CELL,
  createRenderer,
  heatCell,
  latentPage,
  latentPicture,
  type LatentView,
  type NearestCell,
  nearestCells,
  readLatents,
  scaleOf,
  type ShownLatent,
  type ShownThought,
  type Strip,
  type Subject,
  type Thoughts,
  viewLatents,
  visibleToken,
} from "@rot/rot";
import { type Bundle, drawingOf, isTiny } from "@rot/rot/node";
import { dejaVuSans, encodePng, writePicture } from "@rot/rot/render/node";
import type { Tensor } from "@rot/tensor";
import { UsageError } from "@rot/tensor";
import { printable } from "./answer.ts";

/** A latent in the words of its model. */
export interface DescribedLatent {
  readonly view: LatentView;
  readonly nearest: string;
  readonly instead: string;
  /** Of the embedded model: what its base reads in the latent. */
  readonly reads: string | null;
  /** The cell of a chain that it was compared with. */
  readonly drawn: NearestCell | null;
}

/**
 * Looks at the latents of each question of a batch.
 *
 * @param chain  what was to be thought, to be compared with
 */
export async function describeThoughts(
  bundle: Bundle,
  { tokenizer }: Pick<Subject, "tokenizer">,
  { latents, states }: Thoughts,
  chain: string | undefined,
): Promise<DescribedLatent[][]> {
  const { pretrained, base } = bundle;
  const drawing = chain === undefined ? null : await drawingOf(bundle);
  const canRead = await isTiny(base.path);
  const all: DescribedLatent[][] = [];
  for (const [i, own] of latents.entries()) {
    const views = await viewLatents(pretrained.model, own, states[i] as Tensor);
    const read = canRead ? await readLatents(pretrained, own) : null;
    const values = views.map((view) => view.values);
    const drawn = drawing && (await nearestCells(pretrained.model, drawing, chain ?? "", values));
    all.push(
      views.map((view, t) => ({
        view,
        nearest: tokenizer.decode([view.nearest.token]),
        instead: tokenizer.decode([view.instead.token]),
        reads: read?.[t] ?? null,
        drawn: drawn?.[t] ?? null,
      })),
    );
  }
  return all;
}

/** The latents as `--json` prints them. */
export const thoughtJson = (latents: readonly DescribedLatent[]): object[] =>
  latents.map(({ view, nearest, instead, reads, drawn }) => ({
    norm: view.norm,
    cosine_to_last: view.likeLast,
    instead: { text: instead, probability: view.instead.probability },
    nearest: { text: nearest, cosine: view.nearest.cosine },
    ...(reads !== null && { reads }),
    ...(drawn && { drawn: { cell: drawn.cell + 1, cosine: drawn.cosine, cosine_in_place: drawn.inPlace } }),
  }));

const bars = "▁▂▃▄▅▆▇█";

/** The latents as a strip of text: a bar for the length of each, and what can be read out of it. */
export function thoughtLines(latents: readonly DescribedLatent[], seconds: number): string {
  const time = `${seconds.toPrecision(2)} s`;
  if (latents.length === 0) return `  no latents (${time})\n`;
  const norms = latents.map(({ view }) => view.norm);
  const [least, most] = [Math.min(...norms), Math.max(...norms)];
  const bar = norms.map((norm) => bars[most > least ? Math.round((7 * (norm - least)) / (most - least)) : 3]).join("");
  const cells = (name: string, texts: readonly string[]): string =>
    `  ${name.padEnd(8)} ${texts.map((text) => printable(visibleToken(text))).join("│")}\n`;
  const likeLast = latents.flatMap(({ view }) => view.likeLast ?? []);
  const alike = likeLast.length > 0 ? ` · ${(sumOf(likeLast) / likeLast.length).toFixed(2)} like the one before` : "";
  return [
    `  ${latents.length} latents in ${time} · norm ${least.toPrecision(3)} to ${most.toPrecision(3)} ${bar}${alike}\n`,
    ...(latents.some(({ reads }) => reads !== null)
      ? [
          cells(
            "reads",
            latents.map(({ reads }) => reads ?? " "),
          ),
        ]
      : []),
    cells(
      "instead",
      latents.map(({ instead }) => instead),
    ),
    cells(
      "nearest",
      latents.map(({ nearest }) => nearest),
    ),
    ...(latents.some(({ drawn }) => drawn)
      ? [
          cells(
            "drawn",
            latents.map(({ drawn }) => (drawn ? `${drawn.cell + 1}:${drawn.cosine.toFixed(2)}` : "")),
          ),
        ]
      : []),
  ].join("");
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** A question that was answered, and its latents. */
export interface Told {
  readonly question: string;
  readonly answer: string;
  readonly latents: readonly DescribedLatent[];
}

/** @throws {UsageError} when a file is neither a page nor a picture */
export function checkThoughtFile(file: string): void {
  if (![".html", ".png"].includes(extname(file))) {
    throw new UsageError(`--show-latents ${file}: it writes a page, FILE.html, or a picture, FILE.png`);
  }
}

/** Writes latents of questions as a page or a picture; what was in the file is replaced. */
export async function writeThoughts(file: string, told: readonly Told[], model: string): Promise<void> {
  const bytes = extname(file) === ".png" ? await picture(told) : Buffer.from(latentPage(told.map(shown), model));
  await writePicture(file, bytes, { replace: true });
}

/** A question with the pictures of its latents. */
export function shown({ question, answer, latents }: Told): ShownThought {
  const scale = scaleOf(latents.map(({ view }) => view));
  const cell = (view: LatentView): Uint8Array =>
    encodePng({ width: CELL, height: CELL, channels: 3, data: heatCell(view.values, scale), missing: 0 });
  return {
    question,
    answer,
    latents: latents.map(({ drawn, ...latent }): ShownLatent => ({
      ...latent,
      picture: cell(latent.view),
      drawn: drawn && { ...drawn, picture: drawn.picture && encodePng(drawn.picture) },
    })),
  };
}

async function picture(told: readonly Told[]): Promise<Uint8Array> {
  const common = { fonts: [await dejaVuSans()], thoughtMarkers: false } as const;
  const titles = await createRenderer({ ...common, fontSize: 13, height: 24, padding: 2 });
  const small = await createRenderer({ ...common, fontSize: 10, height: 15, padding: 1 });
  const label = (text: string): Strip => small.strip(printable(visibleToken(text)));
  const rows = told.map(({ question, answer, latents }) => ({
    title: titles.strip(printable(`${question} → ${answer}`.slice(0, 300))),
    views: latents.map(({ view }) => view),
    labels: latents.map(({ reads, instead, nearest }) =>
      [...(reads === null ? [] : [reads]), instead, nearest].map(label),
    ),
  }));
  return encodePng(latentPicture(rows));
}
