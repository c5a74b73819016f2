/** Texts of every kind that a pre-tokenizer treats differently, at random with a fixed seed. */
import { random } from "./mutate.ts";

const pieces: readonly (readonly string[])[] = [
  ["the", "render", "of", "thought", "Is", "X", "quotient", "ABC", "zß", "naïve", "Ångström", "e\u0301", "A\u030A"],
  [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u2028", "\u0085", "\v", "\f", "\u200b"],
  ["0", "7", "42", "1000", "3.14", "½", "٣", "Ⅷ", "²"],
  [".", ",", "!?", "...", "+", "=", "<", ">", "/", "\\", "(x)", "###", "$", "€", "“”", "—"],
  ["'s", "'T", "'re", "'VE", "'m", "'ll", "'D", "'ſ", "don't", "’s"],
  ["漢字", "かな", "한국", "\u1112\u1161\u11ab", "עברית", "عربي", "ไทย", "हिन्दी", "Ω", "\u2126", "ﬁ", "\ufb01"],
  ["😀", "👩‍👩‍👧", "🇩🇪", "e\u0327\u0301", "\u0301", "𝔘", "\u{10ffff}", "\ufffd", "\ufeff", "\0", "\x7f", "\u0001"],
  [
    "<|im_start|>",
    "<|im_end|>",
    "<|image_pad|>",
    "<think>",
    "</think>",
    "<|im_",
    "|>",
    "<tool_call>",
    "<|vision_start|>",
  ],
];

/** `count` texts of up to 24 pieces. */
export function texts(count: number, seed = 5): string[] {
  const next = random(seed);
  return Array.from({ length: count }, () => {
    let text = "";
    for (let i = next(24); i > 0; i--) {
      const kind = pieces[next(pieces.length)] as readonly string[];
      text += kind[next(kind.length)] as string;
    }
    return text;
  });
}
