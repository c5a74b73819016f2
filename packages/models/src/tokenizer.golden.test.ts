/** Every case of the golden tokenizer, as the reference's Rust library and Jinja computed them. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ChatTemplate, type Message } from "./chat-template/chat-template.ts";
import { Tokenizer } from "./tokenizer/tokenizer.ts";

const own = fileURLToPath(new URL("../test/golden", import.meta.url));
const root = process.env["ROT_GOLDEN_DIR"] ? resolve(process.env["ROT_GOLDEN_DIR"]) : own;
const read = (...path: string[]) => readFileSync(join(root, ...path), "utf8");
const cases = <T>(file: string) => JSON.parse(read("tokenizer", file)) as T;

const config = read("qwen3vl_tiny", "tokenizer_config.json");
const open = () => new Tokenizer({ tokenizer: read("qwen3vl_tiny", "tokenizer.json"), config, name: "qwen3vl_tiny" });
const tokenizer = open();

interface Decoded {
  readonly ids: number[];
  readonly decoded: string;
  readonly decoded_skip_special: string;
}
interface Encoded extends Decoded {
  readonly text: string;
  readonly tokens: string[];
  readonly normalized: string | null;
  readonly pieces: string[];
}

function checkDecode({ ids, decoded, decoded_skip_special: skipped }: Decoded): void {
  for (const [options, wanted] of [
    [{}, decoded],
    [{ skipSpecialTokens: true }, skipped],
  ] as const) {
    expect(tokenizer.decode(ids, options)).toBe(wanted);
    const stream = tokenizer.stream(options);
    expect(ids.map((id) => stream.push(id)).join("") + stream.end(), "as a stream").toBe(wanted);
  }
}

const encoded = cases<Encoded[]>("encode.json");
const added = (JSON.parse(read("qwen3vl_tiny", "tokenizer.json")) as { added_tokens: { content: string }[] })
  .added_tokens;

test(`encode: ${encoded.length} texts`, () => {
  for (const one of encoded) {
    expect(tokenizer.encode(one.text), one.text).toEqual(one.ids);
    expect(tokenizer.tokens(one.ids)).toEqual(one.tokens);
    checkDecode(one);
    if (added.some(({ content }) => one.text.includes(content))) continue;
    expect(tokenizer.encode(one.normalized ?? one.text), "normalized").toEqual(one.ids);
    expect(
      one.pieces.flatMap((piece) => tokenizer.encode(piece)),
      "piece by piece",
    ).toEqual(one.ids);
  }
});

const decoded = cases<Decoded[]>("decode.json");

test(`decode: ${decoded.length} lists of ids`, () => {
  for (const one of decoded) checkDecode(one);
});

interface Chat {
  readonly messages: Message[];
  readonly add_generation_prompt: boolean;
  readonly add_vision_id?: boolean;
  readonly rendered: string;
  readonly ids: number[];
}
const chats = cases<Chat[]>("chat.json");

test(`chat template: ${chats.length} conversations`, () => {
  const template = ChatTemplate.fromFiles({ json: read("qwen3vl_tiny", "chat_template.json") }, tokenizer.named);
  const same = ChatTemplate.fromFiles({ tokenizerConfig: config }, tokenizer.named);
  for (const { messages, rendered, ids, add_generation_prompt, add_vision_id, ...variables } of chats) {
    const options = {
      addGenerationPrompt: add_generation_prompt,
      ...(add_vision_id !== undefined && { addVisionId: add_vision_id }),
      variables,
    };
    expect(template.render(messages, options)).toBe(rendered);
    expect(same.render(messages, options)).toBe(rendered);
    expect(tokenizer.encode(rendered)).toEqual(ids);
  }
});

test("tokens added at run time", () => {
  const wanted = cases<{
    added: number;
    size_before: number;
    size_after: number;
    ids: Record<string, number>;
    cases: { text: string; ids: number[]; decoded: string }[];
  }>("added_tokens.json");
  const larger = open();
  expect(larger.size).toBe(wanted.size_before);
  expect(larger.addTokens(Object.keys(wanted.ids))).toBe(wanted.added);
  expect(larger.size).toBe(wanted.size_after);
  for (const [token, id] of Object.entries(wanted.ids)) expect(larger.id(token)).toBe(id);
  for (const { text, ids, decoded: back } of wanted.cases) {
    expect(larger.encode(text), text).toEqual(ids);
    expect(larger.decode(ids)).toBe(back);
  }
});
