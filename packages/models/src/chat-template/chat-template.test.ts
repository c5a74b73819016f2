import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ChatTemplate, type Message } from "./chat-template.ts";
import { TemplateError } from "./error.ts";

const render = (source: string, messages: readonly Message[] = [], variables: Record<string, unknown> = {}) =>
  new ChatTemplate(source).render(messages, { variables });
const user = (content: string): Message => ({ role: "user", content });

/** Leaves a text of 2^20 characters in `ns.s`. */
const long = "{% set ns = namespace(s='aa') %}{% for i in range(19) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
const nested = (open: string, close: string, times = 20_000) => `{{ ${open.repeat(times)}1${close.repeat(times)} }}`;

/** Templates that would take all memory, all time or the stack of an interpreter without limits, and what stops them. */
const hostile: Record<string, [template: string, why: RegExp]> = {
  "a huge range": ["{% for i in range(200000000) %}x{% endfor %}", /at most 10000/],
  "a range of fractions": ["{{ range(0.5, 1e9) }}", /whole numbers/],
  "a range without step": ["{{ range(0, 10, 0) }}", /step of range is 0/],
  "loops in loops": ["{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", /steps|longer/],
  "doubling by ~": [`${long}{{ ns.s ~ ns.s ~ ns.s }}`, /longer than 2097152/],
  "doubling by +": [`${long}{{ ns.s + ns.s + ns.s }}`, /longer than 2097152/],
  "doubling lists": [
    "{% set ns = namespace(l=['a']) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    /longer/,
  ],
  "a tree of shared lists": [
    "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    /longer/,
  ],
  "deep lists": [
    "{% set ns = namespace(l=1) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}",
    /64 levels/,
  ],
  "output in a loop": [`${long}{% for i in range(9999) %}{{ ns.s }}{% endfor %}`, /longer|steps/],
  "replace as a method": [`${long}{{ ns.s.replace('a', ns.s) }}`, /replace could make/],
  "replace by another name": [`${long}{% set f = ns.s.replace %}{{ f('a', ns.s) }}`, /replace could make/],
  "replace as a filter": [`${long}{{ ns.s | replace('a', ns.s) }}`, /replace could make/],
  "replace as a block": [`${long}{% filter replace('a', ns.s) %}{{ ns.s }}{% endfilter %}`, /replace could make/],
  join: [`${long}{{ ns.s | join(ns.s) }}`, /join could make/],
  split: [`${long}{{ ns.s.split('a') }}`, /split could make/],
  "a wide indent": ["{{ 'a\nb' | indent(1000000000) }}", /indent could make/],
  "a wide JSON": ["{{ [1] | tojson(indent=1000000000) }}", /tojson could make/],
  "a hidden wide JSON": ["{{ [1] | tojson(**{'indent': 1000000000}) }}", /no \* and \*\*/],
  "a macro that calls itself": ["{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", /400 levels/],
  "a macro that calls itself twice": [
    "{% macro f(n) %}{{ (f(n - 1) ~ f(n - 1)) if n > 0 }}{% endmacro %}{{ f(60) }}",
    /steps|longer/,
  ],
  "a namespace in itself": ["{% set ns = namespace(a=1) %}{% set ns.a = ns %}{{ ns }}", /namespace cannot be put/],
  "a namespace in a list in itself": [
    "{% set ns = namespace(a=1) %}{% set ns.a = [ns] %}{{ ns }}",
    /namespace cannot be put/,
  ],
  "deep parentheses": [nested("(", ")"), /stack|400 levels/],
  "deep brackets": [nested("[", "]"), /stack|levels/],
  "many signs": [nested("-", ""), /stack|400 levels/],
  "many members": [`{{ messages${".a".repeat(20_000)} }}`, /stack|400 levels/],
  "many blocks": [`${"{% if 1 %}".repeat(9000)}${"{% endif %}".repeat(9000)}`, /stack|400 levels/],
  "a long template": [" ".repeat(300_000), /longer than 262144/],
  "a constructor": ["{{ messages.constructor.constructor('return process')() }}", /not a function/],
  "a prototype": ["{{ messages['__proto__']['constructor']('return 1')() }}", /not a function/],
  "a prototype of a text": ["{{ ''.__proto__.constructor.constructor('return 1')() }}", /not a function/],
  "a refusal": ["{{ raise_exception('roles must alternate') }}", /chat template: roles must alternate/],
  "no Jinja": ["{% for %}", /chat template: /],
};

test.for(Object.entries(hostile))("stopped: %s", ([, [template, why]]) => {
  let thrown: unknown;
  try {
    render(template);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(TemplateError);
  expect((thrown as Error).message).toMatch(why);
});

test("what looks like a prototype is just a name, and nothing is polluted", () => {
  expect(render("[{{ messages.__class__ }}{{ ''.__class__ }}{{ x.__proto__ }}]", [], { x: {} })).toBe("[]");
  const variables = JSON.parse('{"__proto__": {"polluted": 1}, "x": {"__proto__": "own"}}') as Record<string, unknown>;
  expect(render("{{ x['__proto__'] }}", [], variables)).toBe("own");
  expect(({} as { polluted?: number }).polluted).toBeUndefined();
});

test("limits are far from what templates do: a thousand long messages, each looked at with its neighbours", () => {
  const template =
    "{% for m in messages %}{% if loop.index0 > 0 and messages[loop.index0 - 1].role == m.role %}={% endif %}" +
    "{{ m.role ~ ': ' ~ (m.content | trim) ~ '\\n' }}{% if 'x' in m.content %}!{% endif %}{% endfor %}";
  const messages = Array.from({ length: 1000 }, (_, i) => user(`${i} ${"word ".repeat(200)}`));
  expect(render(template, messages).split("\n")).toHaveLength(1001);
});

test("guards leave the functions of texts as they are", () => {
  expect(
    render("{{ 'a-b-c'.replace('-', '+', 1) }} {{ 'a-b' | replace('-', '') }} {{ 'a b'.split() | join('|') }}"),
  ).toBe("a+b-c ab a|b");
  expect(render("{{ 'a b'.split(' ')[1] }}{% filter upper %}x{{ 1 }}{% endfilter %}")).toBe("bX1");
  expect(render("{{ {'a': [1, 'é']} | tojson(indent=2) }}")).toBe('{\n  "a": [\n    1,\n    "é"\n  ]\n}');
  expect(render("{{ 'a\\nb' | indent(2, first=true) }}")).toBe("  a\n  b");
  expect(
    render(
      "{% for x in [1, 2, 3] if x > 1 %}{% if x == 2 %}{% continue %}{% endif %}{{ loop.index }}{{ x }}{% endfor %}",
    ),
  ).toBe("23");
  expect(
    render("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{% for k in {'b': 1} %}{{ k }}{% endfor %}"),
  ).toBe("a1b");
  expect(render("{{ range(3) | list }}{{ range(5, 1, -2) | list }}{{ range(3, 1) | list }}")).toBe("[0, 1, 2][5, 3][]");
  expect(
    render("{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}"),
  ).toBe("4");
});

test("options and variables reach the template under its own names", () => {
  const template = new ChatTemplate(
    "{{ eos_token }}{{ add_generation_prompt }}{{ add_vision_id }}{{ tools | tojson }}{{ messages | length }}",
    {
      tokens: { eos_token: "<e>" },
    },
  );
  expect(template.render([user("a")])).toBe("<e>falsenull1");
  const options = { addGenerationPrompt: true, addVisionId: true, variables: { tools: [{ name: "f" }] } };
  expect(template.render([], options)).toBe('<e>truetrue[{"name": "f"}]0');
  expect(() => template.render([], { variables: { namespace: 1 } })).toThrow(TemplateError);
  expect(render("{{ strftime_now('%Y %B') }}")).toMatch(/^20\d\d [A-Z][a-z]+$/);
});

test("content of parts: pictures stand where they are", () => {
  const json = readFileSync(new URL("../../test/golden/qwen3vl_tiny/chat_template.json", import.meta.url), "utf8");
  const content = [{ type: "image" }, { type: "text", text: "?" }] as const;
  expect(ChatTemplate.fromFiles({ json }).render([{ role: "user", content }], { addVisionId: true })).toBe(
    "<|im_start|>user\nPicture 1: <|vision_start|><|image_pad|><|vision_end|>?<|im_end|>\n",
  );
});

test("of the files of a checkpoint, the first that has a template", () => {
  const json = JSON.stringify({ chat_template: "json" });
  const tokenizerConfig = JSON.stringify({
    chat_template: [
      { name: "rag", template: "no" },
      { name: "default", template: "list" },
    ],
  });
  const text = (files: Parameters<typeof ChatTemplate.fromFiles>[0]) => ChatTemplate.fromFiles(files).render([]);
  expect(text({ jinja: "jinja", json, tokenizerConfig })).toBe("jinja");
  expect(text({ json, tokenizerConfig })).toBe("json");
  expect(text({ json: '{"chat_template":null}', tokenizerConfig })).toBe("list");
  expect(() => text({ tokenizerConfig: "{}", name: "tiny" })).toThrow(/^tiny\/: no chat template/);
  expect(() => text({ json: '{"chat_template":1}' })).toThrow(/chat_template is neither/);
  expect(() => text({ json: "{" })).toThrow(/chat_template.json is not JSON/);
});
