/** The page of a run: what it was told, how it went, and what came of it. */
import type { ArmSummary, Row, Summary } from "../../evaluate/rows.ts";
import { type Content, html, type Markup, visible } from "../html.ts";
import { type Curve, lineChart } from "../line-chart.ts";
import { page } from "../page.ts";
import type { Bucket } from "./thinned.ts";

type Curves = Readonly<Record<string, readonly Bucket[]>>;

/** A stage of a run in numbers. */
export interface StageRecord {
  readonly name: string;
  readonly steps: number;
  /** By name: the losses of the steps, and what validations measured. */
  readonly losses: Curves;
  readonly validation: Curves;
  readonly learningRate: readonly Bucket[];
  readonly gradientNorm: readonly Bucket[];
  /** By what is counted: tokens, latents, samples. */
  readonly perSecond: Curves;
  readonly seconds: number;
}

/** An evaluation of one of the run's checkpoints. */
export interface EvaluationRecord {
  readonly name: string;
  readonly checkpoint: string;
  readonly summary: Pick<Summary, "total" | "arms">;
  /** Some of its rows. */
  readonly rows: readonly Pick<Row, "question" | "ground_truth" | "prediction" | "latents" | "is_correct">[];
}

/** All that is known of a run. Whatever is text may come from strangers. */
export interface RunRecord {
  readonly name: string;
  /** From `run.json`: what made it. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  /** The text of `config.yaml`; null where there is none. */
  readonly config: string | null;
  readonly stages: readonly StageRecord[];
  readonly evaluations: readonly EvaluationRecord[];
  /** Of the embedded default: its table as text. */
  readonly table: string | null;
}

/** The page. */
export function runPage({ name, facts, config, stages, evaluations, table }: RunRecord): string {
  return page(`${visible(name)}: a training run`, [
    html`<h1>${visible(name)}</h1>
      <dl>
        ${facts.map(
          ([label, value]) =>
            html`<dt>${visible(label)}</dt>
              <dd>${visible(value)}</dd>`,
        )}
      </dl>`,
    table === null
      ? ""
      : html`<h2>What came of it</h2>
          <div class="card wide"><pre>${visible(table)}</pre></div>`,
    evaluations.map(evaluation),
    stages.length === 0 ? html`<p class="soft">No step has been done yet.</p>` : stages.map(stage),
    config === null
      ? ""
      : html`<h2>Configuration</h2>
          <div class="card wide text"><pre>${visible(config)}</pre></div>`,
  ]);
}

function stage(record: StageRecord): Content {
  const { name, steps, losses, validation, learningRate, gradientNorm, perSecond, seconds } = record;
  const curves = (of: Curves, dots = false): Curve[] =>
    Object.entries(of).map(([label, points]) => ({ name: visible(label).replaceAll("_", " "), points, dots }));
  const validations = curves(validation, true);
  const isLoss = ({ name: label }: Curve): boolean => label === "validation" || /loss|vision|language/.test(label);
  const [from, to] = endsOf(losses["loss"] ?? []);
  return html`<h2>${visible(name)}</h2>
    <div class="tiles">
      ${tile(steps.toLocaleString("en"), "steps")}
      ${seconds > 0 ? tile(`${(seconds / 60).toFixed(1)} min`, "in steps") : ""}
      ${steps > 1 ? tile(`${from.toPrecision(3)} → ${to.toPrecision(3)}`, "loss, first and last tenth") : ""}
      ${seconds > 0 ? tile((seconds / Math.max(1, steps)).toPrecision(3), "seconds a step") : ""}
    </div>
    <div class="grid">
      ${chart("Loss", "loss", [...curves(losses), ...validations.filter(isLoss)])}
      ${chart(
        "Validation",
        "validation",
        validations.filter((curve) => !isLoss(curve)),
      )}
      ${chart("Learning rate", "learning rate", [{ name: "learning rate", points: learningRate }])}
      ${chart("Norm of the gradient, before clipping", "norm", [{ name: "norm", points: gradientNorm }])}
      ${chart("Speed", "per second", curves(perSecond))}
    </div>`;
}

/** The means of the first and of the last tenth of a curve. */
function endsOf(points: readonly Bucket[]): [number, number] {
  const tenth = Math.max(1, Math.round(points.length / 10));
  const mean = (some: readonly Bucket[]): number => some.reduce((sum, point) => sum + point.mean, 0) / some.length;
  return [mean(points.slice(0, tenth)), mean(points.slice(-tenth))];
}

const tile = (value: string, label: string): Markup =>
  html`<div class="tile"><b>${value}</b><span class="soft">${label}</span></div>`;

const chart = (title: string, unit: string, curves: readonly Curve[]): Content =>
  curves.every(({ points }) => points.length === 0)
    ? ""
    : html`<div class="card">
        <h3>${title}</h3>
        ${lineChart(unit, curves)}
      </div>`;

const columns: readonly (readonly [name: string, cell: (arm: ArmSummary) => string])[] = [
  ["Pass@1", ({ score }) => (score ? `${score.pass_at_1.toFixed(1)} %` : "–")],
  ["95 %", ({ score }) => (score ? score.interval.map((end) => end.toFixed(1)).join(" to ") : "–")],
  ["#L", ({ latents }) => latents.toFixed(1)],
  ["s/sample", (arm) => arm.seconds_per_sample.toPrecision(3)],
  ["tokens/s", (arm) => arm.tokens_per_second.toPrecision(3)],
  ["failed", ({ failed }) => String(failed)],
];

function evaluation({ name, checkpoint, summary, rows }: EvaluationRecord): Content {
  return html`<h2>Evaluation: ${visible(name)}</h2>
    <p class="soft">${visible(checkpoint)}, ${summary.total} answers</p>
    <div class="card wide">
      <table>
        <tr>
          <th>latents</th>
          ${columns.map(([label]) => html`<th>${label}</th>`)}
        </tr>
        ${Object.entries(summary.arms).map(
          ([arm, numbers]) =>
            html`<tr>
              <td>${visible(arm)}</td>
              ${columns.map(([, cell]) => html`<td>${cell(numbers)}</td>`)}
            </tr>`,
        )}
      </table>
    </div>
    ${rows.length === 0 ? "" : html`<h3>Some of its answers</h3>`}
    ${rows.map(
      ({ question, ground_truth, prediction, latents, is_correct }) =>
        html`<div class="card">
          <div class="text"><b>${visible(question)}</b></div>
          <dl>
            <dt>answer</dt>
            <dd class="text">${is_correct === undefined ? "" : is_correct ? "✓ " : "✗ "}${visible(prediction)}</dd>
            <dt>right</dt>
            <dd class="text">${visible(ground_truth)}</dd>
            <dt>latents</dt>
            <dd>${latents ?? "–"}</dd>
          </dl>
        </div>`,
    )}`;
}
