/** The tokens of the tiny model: one for each character that it reads and writes, and a few that say what follows. */
import { UsageError } from "@rot/tensor";

const characters = "0123456789+-*= ;>xabc,";
const named = [
  "<q>",
  "<cot>",
  "<ans>",
  "<eos>",
  "<img_begin>",
  "<img_end>",
  "<read>",
  "<pad>",
  "<image>",
  "<video>",
] as const;

/** How each token is written, by its id. */
export const spellings: readonly string[] = [...Array.from(characters), ...named];

const ids = new Map(spellings.map((spelling, id) => [spelling, id]));
const id = (spelling: (typeof named)[number]): number => ids.get(spelling) as number;

/** Ids of the tokens that are no characters. */
export const marks = {
  /** A question follows. */
  question: id("<q>"),
  /** The steps follow as text. */
  chain: id("<cot>"),
  answer: id("<ans>"),
  end: id("<eos>"),
  /** Around pictures and latents. */
  begin: id("<img_begin>"),
  done: id("<img_end>"),
  /** What the picture says is to be written down. */
  read: id("<read>"),
  pad: id("<pad>"),
  /** Stands where a latent is. */
  image: id("<image>"),
  /** The model reads none; its configuration names one. */
  video: id("<video>"),
} as const;

/**
 * A text as ids, character by character.
 *
 * @throws {UsageError} when the tiny model has no such character
 */
export function encode(text: string): number[] {
  return Array.from(text).map((character) => {
    const found = ids.get(character);
    if (found === undefined) {
      throw new UsageError(`the tiny model does not know ${JSON.stringify(character)}; it knows ${characters}`);
    }
    return found;
  });
}

/** Ids as text; what is no token is left out. */
export const decode = (tokens: readonly number[]): string => tokens.map((token) => spellings[token] ?? "").join("");
