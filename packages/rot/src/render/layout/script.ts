/** Which script a character is written in: text is shaped one script at a time. */

/** ISO 15924 codes and Unicode's names of the scripts that are told apart. */
const scripts: Readonly<Record<string, string>> = {
  Latn: "Latin",
  Grek: "Greek",
  Cyrl: "Cyrillic",
  Armn: "Armenian",
  Hebr: "Hebrew",
  Arab: "Arabic",
  Syrc: "Syriac",
  Thaa: "Thaana",
  Nkoo: "Nko",
  Deva: "Devanagari",
  Beng: "Bengali",
  Guru: "Gurmukhi",
  Gujr: "Gujarati",
  Orya: "Oriya",
  Taml: "Tamil",
  Telu: "Telugu",
  Knda: "Kannada",
  Mlym: "Malayalam",
  Sinh: "Sinhala",
  Thai: "Thai",
  Laoo: "Lao",
  Tibt: "Tibetan",
  Mymr: "Myanmar",
  Geor: "Georgian",
  Hang: "Hangul",
  Ethi: "Ethiopic",
  Cher: "Cherokee",
  Cans: "Canadian_Aboriginal",
  Khmr: "Khmer",
  Mong: "Mongolian",
  Hira: "Hiragana",
  Kana: "Katakana",
  Bopo: "Bopomofo",
  Hani: "Han",
  Tfng: "Tifinagh",
  Brai: "Braille",
};
const tests = Object.entries(scripts).map(([code, name]) => [code, new RegExp(`\\p{Script=${name}}`, "u")] as const);
const known = new Map<number, string | undefined>();

/** The script of a character as an ISO 15924 code; undefined for what several share: digits, signs, spaces, marks. */
export function scriptOf(codePoint: number): string | undefined {
  if (codePoint < 0x80) return (codePoint | 0x20) >= 0x61 && (codePoint | 0x20) <= 0x7a ? "Latn" : undefined;
  if (!known.has(codePoint)) {
    const character = String.fromCodePoint(codePoint);
    known.set(codePoint, tests.find(([, test]) => test.test(character))?.[0]);
  }
  return known.get(codePoint);
}
