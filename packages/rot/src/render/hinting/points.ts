/** Measuring and moving points along the vectors of the graphics state. */
import { one14, round, unit } from "./fixed.ts";
import { type GraphicsState, HintingError, type Vector, type Zone } from "./state.ts";

/** The points of a program with its graphics state. */
export class Points {
  readonly state: GraphicsState;
  readonly glyph: Zone;
  /** 64ths of a pixel in a font unit, or 1 where `unscaled` already is in 64ths. */
  readonly scale: number;
  /** Whether moves along x are ignored, as programs written for black and white expect of ClearType. */
  compatible = true;
  /** Whether IUP has run along x, along y. */
  interpolated = { x: false, y: false };
  readonly #twilight: Zone;

  constructor(state: GraphicsState, twilight: Zone, glyph: Zone, scale: number) {
    this.state = state;
    this.#twilight = twilight;
    this.glyph = glyph;
    this.scale = scale;
  }

  /** The zone that ZP0, ZP1 or ZP2 points to. */
  zone(pointer: 0 | 1 | 2): Zone {
    return this.state.zp[pointer] === 0 ? this.#twilight : this.glyph;
  }

  inTwilight(...pointers: readonly (0 | 1 | 2)[]): boolean {
    return pointers.some((pointer) => this.state.zp[pointer] === 0);
  }

  /** @throws {HintingError} when the zone has no such point */
  check(zone: Zone, point: number): number {
    if (!(point >= 0 && point < zone.count)) throw new HintingError(`point ${point} of ${zone.count}`);
    return point;
  }

  /** The length of (x, y) along the projection vector. */
  project(x: number, y: number): number {
    return along(this.state.projection, x, y);
  }

  /** The same for original positions. */
  dualProject(x: number, y: number): number {
    return along(this.state.dual, x, y);
  }

  /** From `b` of `zoneB` to `a` of `zoneA`, as they are now. */
  distance(zoneA: Zone, a: number, zoneB: Zone, b: number): number {
    return this.project(zoneA.x[a]! - zoneB.x[b]!, zoneA.y[a]! - zoneB.y[b]!);
  }

  /** The same before hinting; outside the twilight measured in font units, which is more exact. */
  originalDistance(zoneA: Zone, a: number, zoneB: Zone, b: number, twilight: boolean): number {
    if (twilight)
      return this.dualProject(zoneA.originalX[a]! - zoneB.originalX[b]!, zoneA.originalY[a]! - zoneB.originalY[b]!);
    const units = this.dualProject(
      zoneA.unscaledX[a]! - zoneB.unscaledX[b]!,
      zoneA.unscaledY[a]! - zoneB.unscaledY[b]!,
    );
    return round(units * this.scale);
  }

  /** Projection times freedom, with 14 fraction bits; nearly perpendicular vectors count as parallel. */
  get #parallel(): number {
    const { projection, freedom } = this.state;
    const product = Math.floor((projection.x * freedom.x + projection.y * freedom.y) / one14);
    return Math.abs(product) < 0x400 ? one14 : product;
  }

  /** Moves a point along the freedom vector until its projection has changed by `by`. */
  move(zone: Zone, point: number, by: number): void {
    const { freedom } = this.state;
    this.shift(zone, point, round((by * freedom.x) / this.#parallel), round((by * freedom.y) / this.#parallel), true);
  }

  /** How far along the freedom vector a displacement of `by` along the projection is. */
  displacement(by: number): { x: number; y: number } {
    const { freedom } = this.state;
    return { x: round((by * freedom.x) / this.#parallel), y: round((by * freedom.y) / this.#parallel) };
  }

  /** Moves a point along the axes on which the freedom vector lies. */
  shift(zone: Zone, point: number, x: number, y: number, touch: boolean): void {
    const { freedom } = this.state;
    if (freedom.x !== 0) {
      if (!this.compatible) zone.x[point]! += x;
      if (touch) zone.touchedX[point] = 1;
    }
    if (freedom.y !== 0) {
      if (!this.frozen) zone.y[point]! += y;
      if (touch) zone.touchedY[point] = 1;
    }
  }

  /** After both IUPs nothing moves any more. */
  get frozen(): boolean {
    return this.compatible && this.interpolated.x && this.interpolated.y;
  }

  /** The vector from `second` of ZP2 to `first` of ZP1, or the one a quarter turn to its left. */
  direction(first: number, second: number, turned: number, original: boolean): Vector {
    const [from, to] = [this.zone(2), this.zone(1)];
    this.check(from, second);
    this.check(to, first);
    const x = original ? to.originalX[first]! - from.originalX[second]! : to.x[first]! - from.x[second]!;
    const y = original ? to.originalY[first]! - from.originalY[second]! : to.y[first]! - from.y[second]!;
    return turned && (x !== 0 || y !== 0) ? unit(-y, x) : unit(x, y);
  }
}

function along({ x: vx, y: vy }: Vector, x: number, y: number): number {
  if (vx === one14) return x;
  if (vy === one14) return y;
  return round((x * vx + y * vy) / one14);
}
