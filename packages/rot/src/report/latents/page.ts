/** Latents of questions as a page. */
import { type Content, html, type Markup, visible } from "../html.ts";
import { page } from "../page.ts";
import type { NearestCell } from "./drawn.ts";
import type { LatentView } from "./view.ts";

/** A question with its thought and its answer. Whatever is text may come from strangers. */
export interface ShownThought {
  readonly question: string;
  readonly answer: string;
  readonly latents: readonly ShownLatent[];
}

/** A latent as it is shown. */
export interface ShownLatent {
  readonly view: LatentView;
  /** The text of {@link LatentView.nearest} and {@link LatentView.instead}. */
  readonly nearest: string;
  readonly instead: string;
  /** What the embedded model's base reads in it as a strip; null of other models. */
  readonly reads: string | null;
  /** PNG of its numbers as colors. */
  readonly picture: Uint8Array;
  /** The nearest cell of a chain that it is compared with, and its PNG. */
  readonly drawn?: (Omit<NearestCell, "picture"> & { readonly picture: Uint8Array | null }) | null;
}

/** What the labels mean, for whoever sees them the first time. */
export const meanings = {
  picture:
    "Each square has the numbers of one latent, line by line: blue below zero, red above, in full color from three times their root mean square. It is no picture of anything: a latent is a vector.",
  reads: "what the base, which has learnt to read strips, writes down when it is given the latents as one",
  instead:
    "the likeliest token at the state that the latent was made of: what the model would have written in its place",
  nearest: "the token whose embedding points most nearly its way, with the cosine; small cosines mean nothing",
  drawn:
    "the cell of the drawn chain that the tower sees most nearly as this latent, with the cosine, and the cosine to the cell in its own place",
  norm: "its length; and the cosine to the latent before: latents that are all alike carry little",
} as const;

/** The page of some questions. */
export function latentPage(thoughts: readonly ShownThought[], model: string): string {
  const readable = thoughts.some(({ latents }) => latents.some(({ reads }) => reads !== null));
  const compared = thoughts.some(({ latents }) => latents.some(({ drawn }) => drawn));
  const shown = (["reads", "instead", "nearest", "drawn", "norm"] as const).filter(
    (name) => (name !== "reads" || readable) && (name !== "drawn" || compared),
  );
  return page("Latents", [
    html`<h1>What the model was thinking</h1>
      <p class="soft">${visible(model)}</p>
      <p class="soft">${meanings.picture}</p>
      <dl>
        ${shown.map(
          (name) =>
            html`<dt>${name}</dt>
              <dd class="soft">${meanings[name]}</dd>`,
        )}
      </dl>`,
    ...thoughts.map(thoughtCard),
  ]);
}

/** A question, its latents and its answer. */
function thoughtCard({ question, answer, latents }: ShownThought): Content {
  return html`<div class="card">
    <div class="text"><b>${visible(question)}</b></div>
    <p class="soft">${latents.length} latents</p>
    <div class="latents">${latents.map(latentCell)}</div>
    <div class="text">${visible(answer)}</div>
  </div>`;
}

function latentCell({ view, nearest, instead, reads, picture, drawn }: ShownLatent, at: number): Markup {
  const source = `data:image/png;base64,${base64(picture)}`;
  const cell = drawn?.picture && `data:image/png;base64,${base64(drawn.picture)}`;
  return html`<figure>
    <img src="${source}" width="64" height="64" alt="latent ${at + 1}" />
    ${cell ? html`<img src="${cell}" width="64" height="64" alt="cell ${(drawn?.cell ?? 0) + 1} of the chain" />` : ""}
    <figcaption>
      <span class="soft">${at + 1}</span>
      ${reads === null ? "" : html`<b title="${meanings.reads}">${visible(reads)}</b>`}
      <span title="${meanings.instead}">${token(instead)} <i>${(100 * view.instead.probability).toFixed(0)} %</i></span>
      <span title="${meanings.nearest}">${token(nearest)} <i>${view.nearest.cosine.toFixed(2)}</i></span>
      ${
        drawn
          ? html`<span title="${meanings.drawn}"
              >▣${drawn.cell + 1} <i>${drawn.cosine.toFixed(2)} ${drawn.inPlace?.toFixed(2) ?? ""}</i></span
            >`
          : ""
      }
      <span title="${meanings.norm}"
        >‖${view.norm.toPrecision(3)}‖ <i>${view.likeLast === null ? "" : view.likeLast.toFixed(2)}</i></span
      >
    </figcaption>
  </figure>`;
}

/** A token of which even spaces are seen. */
export const token = (text: string): string =>
  visible(text).replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣");

function base64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
