/** The word that somebody probably meant. */

/** Letters that must be changed, put in or taken out to turn one word into the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** The nearest of some words, or undefined where none is near. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const short = word.slice(0, 64);
  const ranked = words.map((candidate) => ({ candidate, far: distance(short, candidate) }));
  const best = ranked.toSorted((a, b) => a.far - b.far)[0];
  return best && best.far <= Math.max(2, best.candidate.length / 3) ? best.candidate : undefined;
}
