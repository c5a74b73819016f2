/** Pages of runs: whole ones, ones that a kill has torn, and ones that want to do harm. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test } from "vitest";
import { launchChromium } from "../../../../tensor/test/tools/chromium.ts";
import type { Row } from "../../evaluate/rows.ts";
import { summarize } from "../../evaluate/rows.ts";
import { rememberEvaluation, runOfCheckpoint, writeRunReport } from "./index.ts";

const root = mkdtempSync(join(tmpdir(), "rot-report-"));
afterAll(() => rmSync(root, { recursive: true }));

const attack = `</style><script>pwn()</script><img src=x onerror=pwn()>"' onload='pwn()'`;

function rowOf(question: string, arm: Row["arm"], right: boolean): Row {
  const numbers = { seed: 0, latents: 4, tokens: 3, seconds: 0.5, compression_ratio: null, used_ratio: null };
  const texts = { question, cot: "", ground_truth: "18", prediction: right ? "### 18" : attack };
  const fixed = { arm, finish: "stop", reasoning: "latents" } as const;
  return { id: question, ...fixed, ...numbers, ...texts, predicted_answer: "18", is_correct: right };
}

/** A run folder of two stages. */
function makeRun(name: string): string {
  const run = join(root, name);
  for (const stage of ["stage1", "stage2"]) {
    const folder = join(run, stage);
    mkdirSync(join(folder, "checkpoints", "step-00000003"), { recursive: true });
    const steps = Array.from({ length: 900 }, (_, i) => ({
      step: i + 1,
      task: stage,
      loss: 5 / (i + 1),
      [attack]: 0.5,
      learning_rate: 1e-3,
      gradient_norm: 2,
      tokens: 100,
      total_tokens: 100 * i,
    }));
    const validation = { step: 900, task: stage, validation: 0.25, validation_accuracy: 0.5 };
    const lines = [...steps, validation].map((row) => JSON.stringify(row));
    writeFileSync(join(folder, "metrics.jsonl"), `${lines.join("\n")}\n{"step":901,"lo`);
    writeFileSync(
      join(folder, "timing.jsonl"),
      steps.map(({ step }) => `{"step":${step},"milliseconds":200}\n`).join(""),
    );
  }
  writeFileSync(join(run, "config.yaml"), `stage: all # ${attack}\n`);
  const manifest = { format: 1, begun: "2026-11-21", adapter: { name: attack, kind: "software" }, command: ["a", "b"] };
  writeFileSync(join(run, "run.json"), JSON.stringify(manifest));
  return run;
}

test("a run becomes one page with its settings, curves and evaluations, in which nothing runs and nothing is loaded", async () => {
  const run = makeRun("a <b>run");
  const checkpoint = join(run, "stage2", "checkpoints", "step-00000003");
  expect(await runOfCheckpoint(checkpoint)).toBe(run);
  expect(await runOfCheckpoint(join(root, "elsewhere"))).toBeNull();
  const rows = [rowOf("one?", "own", true), rowOf(attack, "own", false), rowOf("one?", "zeros", false)];
  const outcome = { checkpoint, summary: summarize(rows), rows };
  await rememberEvaluation(run, `../../../${attack}`, outcome);
  await rememberEvaluation(run, "gsm8k", outcome);
  writeFileSync(join(run, "evaluations", "other.json"), '{"name": 3}');
  writeFileSync(join(run, "evaluations", "torn.json"), "{");
  const file = await writeRunReport(run);
  const html = readFileSync(file, "utf8");
  expect(html.length).toBeLessThan(400_000);
  expect(html).not.toContain("<script");
  expect(html).toMatch(/<b>900<\/b\s*>/);
  expect(html).toMatch(/0\.200<\/b\s*>/);

  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    const asked: string[] = [];
    page.on("request", (request) => request.url().startsWith("data:") || asked.push(request.url()));
    await page.addInitScript("window.ran = 0; window.pwn = () => window.ran++;");
    const address = pathToFileURL(file).href;
    await page.goto(address, { waitUntil: "load" });
    const found = (await page.evaluate(`({
      ran: window.ran,
      elements: document.querySelectorAll("script, iframe, img, link").length,
      handlers: [...document.querySelectorAll("*")].filter((e) => [...e.attributes].some((a) => a.name.startsWith("on"))).length,
      heading: document.querySelector("h1").textContent,
      titles: [...document.querySelectorAll("h2")].map((e) => e.textContent).filter((text) => !text.includes("pwn")),
      charts: [...document.querySelectorAll("h3")].map((e) => e.textContent),
      arms: [...document.querySelectorAll("td:first-child")].map((e) => e.textContent),
      wide: document.documentElement.scrollWidth <= window.innerWidth,
    })`)) as Record<string, unknown>;
    const charts = ["Loss", "Validation", "Learning rate", "Norm of the gradient, before clipping", "Speed"];
    const answers = "Some of its answers";
    expect(found).toEqual({
      ran: 0,
      elements: 0,
      handlers: 0,
      heading: "a <b>run",
      titles: ["Evaluation: gsm8k", "stage1", "stage2", "Configuration"],
      charts: [answers, answers, ...charts, ...charts],
      arms: ["own", "zeros", "own", "zeros"],
      wide: true,
    });
    expect(asked).toEqual([address]);
  } finally {
    await browser.close();
  }
}, 60_000);

test("a run of one stage, one that has not begun, and a folder that is none", async () => {
  const begun = join(root, "begun");
  mkdirSync(begun);
  writeFileSync(join(begun, "run.json"), "{}");
  expect(readFileSync(await writeRunReport(begun), "utf8")).toContain("No step has been done yet");
  // A line of more than 16 MiB could fill the memory: it is left out, whatever it says.
  const long = `{"step":5,"loss":1,"x":"${"x".repeat(16 * 2 ** 20)}"}`;
  writeFileSync(join(begun, "metrics.jsonl"), `{"step":1,"loss":1}\nnonsense\n[]\n{"step":"x"}\n${long}\n`);
  const one = readFileSync(await writeRunReport(begun, join(root, "one.html")), "utf8");
  expect(one).toContain(">begun</h2");
  expect(one).toContain('<b>1</b><span class="soft">steps</span>');
  expect(one).not.toContain("NaN");
  await expect(writeRunReport(join(root, "nowhere"))).rejects.toThrow(/nowhere holds no run: neither metrics\.jsonl/);
});
