/** The frame of our HTML pages: one file, nothing loaded, no script that could run. */
import { type Content, html, Markup } from "./html.ts";

/** Colors of curves that lie in one chart, of classes `curve-0` and so on; seen on white and on black. */
export const curveColors = [
  "var(--bar)",
  "var(--mark)",
  "#2f9e62",
  "#9a6bd0",
  "#b8860b",
  "#1fa3a8",
  "#d6498f",
] as const;

const style = new Markup(`
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2430; --soft: #667085; --line: #e2e6ec; --card: #f7f8fa;
  --bar: #4c78c9; --mark: #c2410c; --learn: #d9f0dd; --latent: #e3e2fb; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e9ef; --soft: #98a2b3; --line: #2c323c;
  --card: #1b1f26; --bar: #6f9be8; --mark: #fb923c; --learn: #1f4429; --latent: #35326b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 24px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 36px 0 10px; } h3 { font-size: 14px; margin: 0 0 4px; }
h1, h2, h3, p { overflow-wrap: anywhere; }
.soft { color: var(--soft); } p { margin: 4px 0 10px; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; min-width: 130px; }
.tile b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; margin: 0 0 14px; min-width: 0; }
.grid .card { margin: 0; }
.histogram { width: 100%; height: auto; display: block; } .histogram text { font-size: 11px; fill: var(--soft); }
.bar { fill: var(--bar); } line.axis { stroke: var(--line); } line.mark { stroke: var(--mark); stroke-dasharray: 3 3; }
.histogram text.mark { fill: var(--mark); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.strip { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px; margin: 6px 0; }
.strip img { display: block; max-width: none; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 220px; overflow-y: auto; }
dl { display: grid; grid-template-columns: 90px minmax(0, 1fr); gap: 4px 10px; margin: 8px 0; } dt { color: var(--soft); } dd { margin: 0; }
.tokens { font: 12px/1.9 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; max-height: 260px; overflow-y: auto; }
.tokens span { border: 1px solid var(--line); border-radius: 3px; padding: 1px 3px; margin-right: 2px; display: inline-block; max-width: 100%; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.latents { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; }
.latents figure { margin: 0; width: 96px; } .latents img { display: block; image-rendering: pixelated; border: 1px solid var(--line); border-radius: 3px; }
.latents figcaption { font: 11px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.latents span, .latents b { display: block; overflow: hidden; white-space: pre; text-overflow: ellipsis; unicode-bidi: isolate; }
.latents b { font-size: 15px; } .latents i { color: var(--soft); font-style: normal; }
.chart { width: 100%; height: auto; display: block; } .chart text { font-size: 11px; fill: var(--soft); }
.chart polyline { fill: none; stroke-width: 1.6; } .chart .band { opacity: 0.18; stroke: none; }
.legend span { display: inline-block; margin-right: 14px; font-size: 12px; }
${curveColors
  .map(
    (color, i) =>
      `.curve-${i} { stroke: ${color}; color: ${color}; } .band.curve-${i}, circle.curve-${i} { fill: ${color}; }`,
  )
  .join("\n")}
pre { margin: 0; font: 12px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.tokens .learnt { background: var(--learn); } .tokens .latent { background: var(--latent); }
`);

/** A whole page. Its policy lets no script run and nothing be loaded, whatever stands in it. */
export function page(title: string, body: Content): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title}</title>
        <style>
          ${style}
        </style>
      </head>
      <body>
        ${body}
      </body>
    </html> `.text;
}
