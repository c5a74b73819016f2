/** Word problems of several steps, with chains and answers, made from a seed: data that may be shipped. */
import { type RandomKey, philox } from "@rot/tensor";
import type { Sample } from "./sample.ts";

/** What is made. */
export interface SyntheticOptions {
  /** Steps of each problem, from … to …; 2 to 4 by default. */
  readonly steps?: readonly [least: number, most: number];
  /** The largest number that is given in a problem; 20 by default. Larger ones are harder. */
  readonly largest?: number;
}

/** Draws from one sample's own random numbers. */
interface Draw {
  /** A whole number from `least` to `most`. */
  number(least: number, most: number): number;
  pick<T>(choices: readonly T[]): T;
}

/** A step: what the problem says, what the chain says, and the count after it; null where it does not fit the count. */
type Story = (draw: Draw, count: number, largest: number, who: Names) => Told | null;

interface Told {
  readonly event: string;
  readonly thought: string;
  readonly count: number;
}

interface Names {
  readonly name: string;
  readonly things: string;
}

const names = [
  "Ada",
  "Ben",
  "Clara",
  "Dev",
  "Elif",
  "Femi",
  "Grace",
  "Hugo",
  "Ines",
  "Jamal",
  "Kaia",
  "Liam",
  "Mei",
  "Noor",
  "Omar",
  "Pia",
];
const things = [
  "apples",
  "stickers",
  "marbles",
  "books",
  "cards",
  "shells",
  "pencils",
  "coins",
  "cookies",
  "stamps",
  "beads",
  "buttons",
];

const stories: readonly Story[] = [
  (draw, count, largest, { name, things }) => {
    const more = draw.number(2, largest);
    return {
      event: draw.pick([
        `${name} buys ${more} more.`,
        `A friend gives ${name} ${more} more ${things}.`,
        `${name} finds another ${more}.`,
      ]),
      thought: `${count} + ${more} = ${count + more} ${things}.`,
      count: count + more,
    };
  },
  (draw, count, largest, { name, things }) => {
    if (count < 4) return null;
    const fewer = draw.number(2, Math.min(largest, count - 1));
    return {
      event: draw.pick([
        `${name} gives ${fewer} away.`,
        `${name} loses ${fewer} of them.`,
        `${fewer} of the ${things} are sold.`,
      ]),
      thought: `${count} - ${fewer} = ${count - fewer} ${things}.`,
      count: count - fewer,
    };
  },
  (draw, count, largest, { name, things }) => {
    const times = draw.number(2, Math.min(9, Math.max(2, Math.floor(largest / 2))));
    if (count * times > 50 * largest) return null;
    const words: Readonly<Record<number, string>> = { 2: "twice", 3: "three times", 4: "four times" };
    return {
      event: `Next week ${name} has ${words[times] ?? `${times} times`} as many.`,
      thought: `${count} * ${times} = ${count * times} ${things}.`,
      count: count * times,
    };
  },
  (draw, count, _largest, { name, things }) => {
    const divisors = [2, 3, 4, 5, 6, 7, 8, 9].filter((n) => count % n === 0 && count / n > 1);
    if (divisors.length === 0) return null;
    const parts = draw.pick(divisors);
    return {
      event: `${name} puts the ${things} into ${parts} equal boxes and keeps one box.`,
      thought: `${count} / ${parts} = ${count / parts} ${things} in a box.`,
      count: count / parts,
    };
  },
];

/**
 * Makes one problem. The same key and number give the same problem, whatever else is made.
 *
 * @param key     made for this purpose of a seed
 * @param number  which one; it becomes the id
 */
export function syntheticSample(
  key: RandomKey,
  number: number,
  { steps: [least, most] = [2, 4], largest = 20 }: SyntheticOptions = {},
): Sample {
  let drawn = 0;
  const unit = (): number => philox([drawn++, number, 0, 0], key.words)[0] / 2 ** 32;
  const draw: Draw = {
    number: (from, to) => from + Math.floor(unit() * (to - from + 1)),
    pick: (choices) => choices[Math.floor(unit() * choices.length)] as (typeof choices)[number],
  };
  const who: Names = { name: draw.pick(names), things: draw.pick(things) };
  let count = draw.number(2, largest);
  const events = [`${who.name} has ${count} ${who.things}.`];
  const thoughts: string[] = [];
  const wanted = draw.number(least, most);
  while (thoughts.length < wanted) {
    const told = draw.pick(stories)(draw, count, largest, who);
    if (!told) continue; // adding always fits
    events.push(told.event);
    thoughts.push(told.thought);
    count = told.count;
  }
  return {
    id: number,
    question: `${events.join(" ")} How many ${who.things} does ${who.name} have now?`,
    cot: thoughts.join("\n"),
    answer: String(count),
  };
}

/** Problems `from` up to, without, `to`. */
export const syntheticSamples = (
  key: RandomKey,
  from: number,
  to: number,
  options?: SyntheticOptions,
): readonly Sample[] => Array.from({ length: to - from }, (_, i) => syntheticSample(key, from + i, options));
