import { expect, test } from "vitest";
import { escapeHtml, html, visible } from "./html.ts";

test("texts are escaped, markup is not, lists are both", () => {
  const name = `<b a="1" b='2'>&\``;
  expect(escapeHtml(name)).toBe("&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;&#96;");
  expect(html`<i>${name}</i>${html`<b>x</b>`}${[1, "<", html`<u>y</u>`]}`.text).toBe(
    "<i>&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;&#96;</i><b>x</b>1&lt;<u>y</u>",
  );
});

test("controls and marks of direction are shown", () => {
  expect(visible("a\0\u001b[31m\u007f\tb\nc")).toBe("a\u2400\u241b[31m\u2421\tb\nc");
  expect(visible("\u202eabc\u2066\ufeff\u0085")).toBe("⟨U+202E⟩abc⟨U+2066⟩⟨U+FEFF⟩⟨U+0085⟩");
  expect(visible("日本 é 😀")).toBe("日本 é 😀");
});
