/** The page in headless Chromium: whatever its rows hold, nothing runs and nothing is loaded. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { loadChatTemplate, loadImageProcessor, loadTokenizer } from "@rot/models/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { goldenFolder } from "../../../../models/test/tools/golden-folder.ts";
import { launchChromium } from "../../../../tensor/test/tools/chromium.ts";
import { dejaVuSans } from "../../render/node/dejavu.ts";
import { createRenderer } from "../../render/strip.ts";
import { preprocess } from "./node/preprocess.ts";

/** Each would call `pwn()` where it is taken for markup. */
const attacks = [
  "<script>pwn()</script>",
  "</style><script>pwn()</script>",
  "</title><script>pwn()</script>",
  "</svg><script>pwn()</script>",
  "<ScRiPt >pwn()</sCrIpT >",
  "<img src=x onerror=pwn()>",
  '"><img src=x onerror="pwn()">',
  "'><img src=x onerror='pwn()'>",
  "`><img src=x onerror=`pwn()`>",
  '" onmouseover="pwn()" x="',
  "' autofocus onfocus='pwn()' x='",
  "<svg onload=pwn()>",
  "<svg><script>pwn()</script></svg>",
  "<svg><animate onbegin=pwn() attributeName=x dur=1s>",
  "<math><mtext><table><mglyph><style><img src=x onerror=pwn()>",
  "<body onload=pwn()>",
  "<iframe srcdoc='<script>parent.pwn()</script>'>",
  "<iframe src=javascript:parent.pwn()>",
  "<object data='javascript:pwn()'>",
  "<embed src='javascript:pwn()'>",
  "<a href=javascript:pwn()>x</a>",
  "<meta http-equiv=refresh content='0;url=javascript:pwn()'>",
  "<base href='javascript:pwn()//'>",
  "<link rel=stylesheet href='http://127.0.0.1:9/x.css'>",
  "<style>@import 'http://127.0.0.1:9/x.css'; *{background:url(http://127.0.0.1:9/x)}</style>",
  "<input autofocus onfocus=pwn()>",
  "<details open ontoggle=pwn()>",
  "<video><source onerror=pwn()></video>",
  "<!--><script>pwn()</script-->",
  "<noscript><p title='</noscript><img src=x onerror=pwn()>'>",
  "\0<script\0>pwn()</script>",
  "&lt;script&gt;pwn()&lt;/script&gt;",
];

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "rot-page-"))));
afterAll(() => rm(folder, { recursive: true }));

test("32 attacks in every text of a row: no script runs, nothing is asked for, and each is shown as it is", async () => {
  const model = goldenFolder("qwen3vl_tiny");
  const tokenizer = await loadTokenizer(model);
  await preprocess(
    attacks.map((attack) => ({ id: attack, question: attack, cot: attack, answer: attack })),
    {
      renderer: await createRenderer({ fonts: [await dejaVuSans()] }),
      processor: await loadImageProcessor(model),
      prompting: { tokenizer, template: await loadChatTemplate(model, tokenizer) },
      dataset: "attacks",
      split: "train",
      outputFolder: folder,
      encoding: "exact",
      onBadRow: "fail",
      bad: attacks.slice(0, 20).map((attack) => ({ place: attack, reason: attack })),
      preview: attacks.length,
    },
  );
  const file = join(folder, "attacks_train_report.html");
  // Escaping must do without the policy that would also stop a script.
  const html = await readFile(file, "utf8");
  const open = html.replace(/<meta\s+http-equiv="Content-Security-Policy"[^>]*>/, "");
  expect(open.length).toBeLessThan(html.length);
  await writeFile(join(folder, "open.html"), open);

  const browser = await launchChromium();
  try {
    for (const name of ["attacks_train_report.html", "open.html"]) {
      const page = await browser.newPage();
      const asked: string[] = [];
      const said: string[] = [];
      page.on("request", (request) => request.url().startsWith("data:") || asked.push(request.url()));
      page.on("dialog", (dialog) => void dialog.dismiss());
      page.on("console", (message) => said.push(message.text()));
      await page.addInitScript("window.ran = 0; window.pwn = () => window.ran++;");
      const address = pathToFileURL(join(folder, name)).href;
      await page.goto(address, { waitUntil: "load" });
      await page.mouse.move(300, 300);
      const found = (await page.evaluate(`({
        ran: window.ran,
        elements: document.querySelectorAll("script, iframe, object, embed, link, base, input, details, video, math").length,
        handlers: [...document.querySelectorAll("*")].filter((e) => [...e.attributes].some((a) => a.name.startsWith("on"))).length,
        chains: [...document.querySelectorAll("dd")].filter((_, i) => i % 3 === 1).map((e) => e.textContent),
        tokens: [...document.querySelectorAll(".card .tokens")].length,
        broken: [...document.images].filter((image) => image.naturalWidth === 0).length,
        pictures: document.images.length,
      })`)) as Record<string, unknown>;
      expect(found).toEqual({
        ran: 0,
        elements: 0,
        handlers: 0,
        chains: attacks.map((attack) => attack.replaceAll("\0", "\u2400")),
        tokens: attacks.length,
        broken: 0,
        pictures: attacks.length + 6,
      });
      expect(asked).toEqual([address]);
      expect(said).toEqual([]);
      await page.close();
    }
  } finally {
    await browser.close();
  }
});
