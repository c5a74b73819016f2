/** The page that shows a dataset: its distributions, its extreme rows, and what the model is trained on. */
import { type Content, escapeHtml, html, type Markup, visible } from "../../report/html.ts";
import { histogram } from "../../report/histogram.ts";
import { page } from "../../report/page.ts";
import type { Strip } from "../../render/strip.ts";
import type { Sample } from "../sample.ts";
import type { Numbers, Statistics } from "./collect.ts";
import type { Measured, Prompting } from "./measure.ts";
import { markersOf } from "./measure.ts";
import type { About } from "./report-text.ts";
import type { Distribution } from "./statistics.ts";

/** A row to be shown. Made by {@link shownOf}. */
export interface Shown {
  readonly sample: Sample;
  /** Its strip is cut at what is shown of it: a page holds many. */
  readonly measured: Measured;
  /** Pixels of the whole strip. */
  readonly width: number;
}

/** What the page is made of. */
export interface PageContents extends About {
  readonly statistics: Statistics;
  readonly numbers: Numbers;
  readonly widest: readonly Shown[];
  readonly narrowest: readonly Shown[];
  readonly preview: readonly Shown[];
  readonly prompting?: Prompting | undefined;
  /** A strip as a `data:` address. */
  readonly picture: (strip: Strip) => string;
}

/** Pixels of a strip that are shown, and bytes of pictures and characters of texts on a page: it must stay below 2 MB. */
const WIDEST_SHOWN = 6400;
const MOST_PICTURES = 1_000_000;
const LONGEST_TEXT = 2000;
const LONGEST_ID = 80;
const MOST_TEXT = 150_000;
const MOST_TOKENS = 600;
const MOST_TOKENS_OF_ALL = 6000;
const MOST_BAD_ROWS = 20;

/** A row as the page keeps it. */
export function shownOf(sample: Sample, measured: Measured): Shown {
  const { strip } = measured;
  const shown = strip.width > WIDEST_SHOWN ? leftPart(strip, WIDEST_SHOWN) : strip;
  return { sample, measured: { ...measured, strip: shown }, width: strip.width };
}

/** The page as one HTML file. */
export function preprocessPage(contents: PageContents): string {
  const { dataset, split, statistics, numbers } = contents;
  const { vision_tokens: vision, text_tokens: text } = statistics;
  const budget = { pictures: MOST_PICTURES, tokens: MOST_TOKENS_OF_ALL, texts: MOST_TEXT };
  const rows = (shown: readonly Shown[], full: boolean): Markup[] =>
    shown.map((one) => card(one, contents, full, budget));
  const chart = (title: string, values: readonly number[], unit: string, { median, percentile_95 }: Distribution) =>
    values.length === 0
      ? ""
      : html`<div class="card">
          <h3>${title}</h3>
          ${histogram(values, unit, [
            { label: `median ${count(median)}`, value: median },
            { label: `95 % ${count(percentile_95)}`, value: percentile_95 },
          ])}
        </div>`;
  const tiles: readonly (readonly [string, string])[] = [
    ["rows", count(statistics.total_samples)],
    ["left out", count(statistics.skipped.count)],
    ["latents a row", statistics.vision_tokens[statistics.encoding].mean.toFixed(1)],
    ["latents in all", count(total(statistics.encoding === "exact" ? numbers.exact : numbers.reference))],
    ["too wide for the reference", count(vision.reference_too_wide)],
    ["characters in no font", count(statistics.missing_characters.characters)],
  ];
  const body: Content = [
    html`<h1>${visible(dataset)} <span class="soft">${visible(split)}</span></h1>
      <p class="soft">
        What the model is shown of this dataset: chains of thought as strips of pixels, each
        ${statistics.encoding === "exact" ? "cut as it was drawn" : "resized as the reference does"}.
      </p>
      <div class="tiles">
        ${tiles.map(([name, value]) => html`<div class="tile"><b>${value}</b><span class="soft">${name}</span></div>`)}
      </div>
      <h2>Distributions</h2>
      <div class="grid">
        ${chart("Latents, exact encoding", numbers.exact, "latents", vision.exact)}
        ${chart("Latents, reference encoding", numbers.reference, "latents", vision.reference)}
        ${chart("Width of the strip", numbers.widths, "pixels", statistics.strip_width)}
        ${chart("Length of the chain", numbers.characters, "characters", statistics.cot_char_length)}
        ${text ? chart("Chain as text", numbers.cot, "tokens", text.cot) : ""}
        ${text ? chart("Question, latents and answer", numbers.sequence, "tokens", text.sequence) : ""}
      </div>
      <h2>In numbers</h2>
      ${table(statistics)}`,
    skipped(statistics),
    contents.preview.length > 0
      ? html`<h2>The first rows, as they are trained on</h2>
          ${legend(contents)}${rows(contents.preview, true)}`
      : "",
    html`<h2>Widest</h2>
      ${rows(contents.widest, false)}
      <h2>Narrowest</h2>
      ${rows(contents.narrowest, false)}`,
  ];
  return page(`${visible(dataset)} ${visible(split)}: rows and strips`, body);
}

const count = (value: number): string => value.toLocaleString("en", { maximumFractionDigits: 1 });

function total(values: readonly number[]): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function table(statistics: Statistics): Markup {
  const { vision_tokens: vision, text_tokens: text } = statistics;
  const rows: (readonly [string, Distribution])[] = [
    ["characters of the chain", statistics.cot_char_length],
    ["words of the chain", statistics.cot_word_count],
    ["lines of the chain", statistics.cot_line_count],
    ["width of the strip, pixels", statistics.strip_width],
    ["latents, exact", vision.exact],
    ["latents, reference", vision.reference],
  ];
  if (text) {
    rows.push(["question, tokens", text.question], ["chain as text, tokens", text.cot]);
    rows.push(["answer, tokens", text.answer], ["question, latents and answer", text.sequence]);
  }
  const cells = ({ mean, std, min, median, percentile_95, max }: Distribution): Markup[] =>
    [mean.toFixed(1), std.toFixed(1), count(min), count(median), count(percentile_95), count(max)].map(
      (value) => html`<td>${value}</td>`,
    );
  return html`<div class="card wide">
    <table>
      <tr>
        <th></th>
        ${["mean", "std", "min", "median", "95 %", "max"].map((name) => html`<th>${name}</th>`)}
      </tr>
      ${rows.map(
        ([name, distribution]) =>
          html`<tr>
            <td>${name}</td>
            ${cells(distribution)}
          </tr>`,
      )}
    </table>
  </div>`;
}

function skipped({ skipped: { count: number, rows } }: Statistics): Content {
  if (number === 0) return "";
  const shown = rows.slice(0, MOST_BAD_ROWS);
  return html`<h2>Left out: ${count(number)} rows</h2>
    <div class="card">
      ${shown.map(({ place, reason }) => html`<p><b>${visible(place)}</b> ${visible(reason)}</p>`)}${number > shown.length ? html`<p class="soft">and ${count(number - shown.length)} more</p>` : ""}
    </div>`;
}

function legend({ prompting }: PageContents): Content {
  if (!prompting)
    return html`<p class="soft">With --model FOLDER the tokens are shown too, and which of them carry loss.</p>`;
  return html`<div class="tokens">
    <span>given</span> <span class="latent">learnt as a picture</span> <span class="learnt">learnt as text</span>
  </div>`;
}

function card(
  { sample, measured, width }: Shown,
  contents: PageContents,
  full: boolean,
  budget: { pictures: number; tokens: number; texts: number },
): Markup {
  const { strip, exact, reference } = measured;
  const reached = reference
    ? `${count(reference.tokens)} in ${reference.rows} ${reference.rows === 1 ? "row" : "rows"} by the reference`
    : "too wide for the reference";
  const facts = `${count(width)} pixels · ${count(exact.tokens)} latents · ${reached}${strip.missing > 0 ? ` · ${count(strip.missing)} characters in no font` : ""}`;
  const texts: readonly (readonly [string, string])[] = full
    ? [
        ["question", sample.question],
        ["chain", sample.cot],
        ["answer", sample.answer],
      ]
    : [];
  return html`<div class="card">
    <h3>Row <bdi>${cut(String(sample.id), LONGEST_ID)}</bdi> <span class="soft">${facts}</span></h3>
    ${pictureOf(strip, width, contents.picture, budget)}${
      texts.length > 0
        ? html`<dl>
            ${texts.map(
              ([name, text]) =>
                html`<dt>${name}</dt>
                  <dd class="text" dir="auto">${within(budget, text)}</dd>`,
            )}
          </dl>`
        : ""
    }${full ? tokensOf(measured, contents, budget) : ""}
  </div>`;
}

function pictureOf(
  strip: Strip,
  whole: number,
  picture: (strip: Strip) => string,
  budget: { pictures: number },
): Content {
  const address = picture(strip);
  if (address.length > budget.pictures) return html`<p class="soft">The strip is left out: the page is full.</p>`;
  budget.pictures -= address.length;
  const image = html`<div class="strip">
    <img src="${address}" width="${strip.width}" height="${strip.height}" alt="the chain as a strip" />
  </div>`;
  if (strip.width === whole) return image;
  return [image, html`<p class="soft">Its first ${count(strip.width)} pixels of ${count(whole)}.</p>`];
}

function leftPart({ width: whole, height, channels, data, missing }: Strip, width: number): Strip {
  const part = new Uint8Array(width * height * channels);
  for (let row = 0; row < height; row++) {
    part.set(data.subarray(row * whole * channels, (row * whole + width) * channels), row * width * channels);
  }
  return { width, height, channels, missing, data: part };
}

/** The sequence of a sample: the prompt, the latents as one mark, the answer. */
function tokensOf(
  { tokens, ...grids }: Measured,
  { prompting, statistics }: PageContents,
  budget: { tokens: number },
): Content {
  if (!tokens || !prompting) return "";
  const { begin, end } = markersOf(prompting);
  const named = new Map([
    [begin, "<img_begin>"],
    [end, "<img_end>"],
  ]);
  const decoder = new TextDecoder();
  const token = (id: number): string =>
    named.get(id) ?? decoder.decode(prompting.tokenizer.bytes(id) ?? new Uint8Array()).replaceAll("\n", "⏎");
  const most = Math.min(MOST_TOKENS, budget.tokens);
  const marks = (ids: Int32Array, name: string): Markup[] => {
    const shown = [...ids.subarray(0, most)].map((id) => html`<span class="${name}">${visible(token(id))}</span>`);
    budget.tokens -= shown.length;
    return ids.length > most ? [...shown, html`<span>… ${count(ids.length - most)} more</span>`] : shown;
  };
  const latents = grids[statistics.encoding]?.tokens ?? 0;
  return html`<div class="tokens" dir="ltr">
    ${marks(tokens.question, "given")}<span class="latent">${count(latents)} latents</span
    >${marks(tokens.answer, "learnt")}
  </div>`;
}

function within(budget: { texts: number }, text: string): Content {
  const shown = cut(text);
  const { length } = escapeHtml(shown);
  if (length > budget.texts) return html`<span class="soft">Left out: the page is full.</span>`;
  budget.texts -= length;
  return shown;
}

function cut(text: string, most = LONGEST_TEXT): string {
  const shown = visible(text);
  return shown.length > most ? `${shown.slice(0, most)} … (${count(shown.length)} characters)` : shown;
}
