/** A curve of any length in bounded memory: neighbours are put together as more come. */

/** What some neighbouring points have in common. */
export interface Bucket {
  /** The mean. */
  readonly x: number;
  readonly mean: number;
  readonly least: number;
  readonly most: number;
  readonly count: number;
}

/** Buckets are merged in pairs when there would be more. */
const MOST = 300;

/** Collects the points of a curve in the order of x. */
export class Thinned {
  #buckets: Bucket[] = [];
  #per = 1;

  /** Adds a point; what is no finite number is left out. */
  add(x: number, y: number): void {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    const point = { x, mean: y, least: y, most: y, count: 1 };
    const last = this.#buckets.at(-1);
    if (last && last.count < this.#per) this.#buckets[this.#buckets.length - 1] = merged(last, point);
    else this.#buckets.push(point);
    if (this.#buckets.length < MOST) return;
    this.#per *= 2;
    this.#buckets = Array.from({ length: Math.ceil(MOST / 2) }, (_, i) => {
      const [a, b] = [this.#buckets[2 * i] as Bucket, this.#buckets[2 * i + 1]];
      return b ? merged(a, b) : a;
    });
  }

  get points(): readonly Bucket[] {
    return this.#buckets;
  }
}

function merged(a: Bucket, b: Bucket): Bucket {
  const count = a.count + b.count;
  return {
    x: (a.x * a.count + b.x * b.count) / count,
    mean: (a.mean * a.count + b.mean * b.count) / count,
    least: Math.min(a.least, b.least),
    most: Math.max(a.most, b.most),
    count,
  };
}
