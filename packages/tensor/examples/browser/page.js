// @ts-check
/** Opens the GPU, runs both examples, and shows what they tell. */
import { openDevice } from "@rot/tensor";
import { drawBoundary, drawLine } from "./draw.js";
import * as line from "./line.js";
import * as spiral from "./spiral.js";

const adapter = find(document, "#adapter", HTMLElement);
try {
  const device = await openDevice({ notice: (text) => (adapter.textContent = text) });
  const examples = [
    example("#line", async function* (canvas) {
      for await (const { step, loss, slope, offset } of line.fitLine(device)) {
        drawLine(canvas, line.points, { slope, offset });
        yield { step, loss: loss.toFixed(4), slope: slope.toFixed(3), offset: offset.toFixed(3) };
      }
    }),
    example("#spiral", async function* (canvas) {
      const start = performance.now();
      for await (const { step, loss, right, guesses } of spiral.learnSpiral(device)) {
        drawBoundary(canvas, spiral.points, spiral.grid, guesses);
        const milliseconds = (performance.now() - start) / step;
        yield { step, loss: loss.toFixed(4), right: `${right.toFixed(0)} %`, time: `${milliseconds.toFixed(1)} ms` };
      }
    }),
  ];
  for (const run of examples) await run();
} catch (error) {
  adapter.classList.add("error");
  adapter.textContent = message(error);
}

/**
 * Ties a section of the page to an example.
 *
 * @param {string} id
 * @param {(canvas: HTMLCanvasElement) => AsyncIterable<Record<string, string | number>>} frames
 * @returns {() => Promise<void>} runs it to its end, and shows an error in its place
 */
function example(id, frames) {
  const section = find(document, id, HTMLElement);
  const canvas = find(section, "canvas", HTMLCanvasElement);
  const button = find(section, "button", HTMLButtonElement);
  const problem = find(section, ".error", HTMLElement);
  const run = async () => {
    button.disabled = true;
    problem.textContent = "";
    section.dataset["state"] = "running";
    try {
      for await (const values of frames(canvas)) {
        for (const [name, value] of Object.entries(values))
          find(section, `[data-value=${name}]`, HTMLElement).textContent = `${value}`;
        await new Promise(requestAnimationFrame);
      }
      section.dataset["state"] = "done";
    } catch (error) {
      section.dataset["state"] = "failed";
      problem.textContent = message(error);
    }
    button.disabled = false;
  };
  button.addEventListener("click", run);
  const details = find(section, "details", HTMLDetailsElement);
  details.addEventListener("toggle", () => showSource(details), { once: true });
  return run;
}

/** @param {HTMLDetailsElement} details */
async function showSource(details) {
  const response = await fetch(details.dataset["source"] ?? "");
  find(details, "pre", HTMLPreElement).textContent = await response.text();
}

/** @param {unknown} error */
function message(error) {
  console.error(error);
  return error instanceof Error ? error.message : String(error);
}

/**
 * The element of the page that a selector means.
 *
 * @template {Element} E
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => E} type
 * @returns {E}
 */
function find(root, selector, type) {
  const found = root.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`the page has no ${selector}`);
  return found;
}
