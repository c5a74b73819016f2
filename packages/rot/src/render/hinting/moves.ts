/** The instructions that measure and move points. */
import { one14, round, roundBy } from "./fixed.ts";
import type { Interpreter } from "./interpreter.ts";
import type { Zone } from "./state.ts";

/** Runs one instruction; false when it is none of these. */
export function movePoints(run: Interpreter, op: number): boolean {
  if (op >= 0xe0) indirectRelative(run, op); // MIRP
  else if (op >= 0xc0) directRelative(run, op); // MDRP
  else {
    const instruction = instructions[op];
    if (!instruction) return false;
    instruction(run, op);
  }
  return true;
}

const instructions: Readonly<Record<number, (run: Interpreter, op: number) => void>> = {
  0x0f: intersect, // ISECT
  0x27: alignPoints, // ALIGNPTS
  0x29: untouch, // UTP
  0x2e: directAbsolute, // MDAP
  0x2f: directAbsolute,
  0x30: interpolateUntouched, // IUP
  0x31: interpolateUntouched,
  0x32: shiftPoints, // SHP
  0x33: shiftPoints,
  0x34: shiftContour, // SHC
  0x35: shiftContour,
  0x36: shiftZone, // SHZ
  0x37: shiftZone,
  0x38: shiftByPixels, // SHPIX
  0x39: interpolate, // IP
  0x3a: stackRelative, // MSIRP
  0x3b: stackRelative,
  0x3c: alignToReference, // ALIGNRP
  0x3e: indirectAbsolute, // MIAP
  0x3f: indirectAbsolute,
  0x46: getCoordinate, // GC
  0x47: getCoordinate,
  0x48: setCoordinate, // SCFS
  0x49: measureDistance, // MD
  0x4a: measureDistance,
  0x5d: (run) => deltaPoints(run, 0), // DELTAP1, 2, 3
  0x71: (run) => deltaPoints(run, 16),
  0x72: (run) => deltaPoints(run, 32),
  0x73: (run) => deltaControlValues(run, 0), // DELTAC1, 2, 3
  0x74: (run) => deltaControlValues(run, 16),
  0x75: (run) => deltaControlValues(run, 32),
  0x80: flipPoints, // FLIPPT
  0x81: (run) => flipRange(run, 1), // FLIPRGON
  0x82: (run) => flipRange(run, 0), // FLIPRGOFF
};

/** Runs `work` for as many points of the stack as SLOOP has said, then sets the loop back. */
function loop(run: Interpreter, work: (point: number) => void): void {
  for (let count = run.state.loop; count > 0; count--) work(run.pop());
  run.state.loop = 1;
}

function directAbsolute(run: Interpreter, op: number): void {
  const zone = run.zone(0);
  const point = run.check(zone, run.pop());
  if (op & 1) {
    const at = run.project(zone.x[point]!, zone.y[point]!);
    run.move(zone, point, roundBy(run.state.rounding, at) - at);
  } else {
    run.move(zone, point, 0);
  }
  run.state.rp[0] = run.state.rp[1] = point;
}

function indirectAbsolute(run: Interpreter, op: number): void {
  const { state } = run;
  let to = run.controlValue(run.pop());
  const zone = run.zone(0);
  const point = run.check(zone, run.pop());
  if (run.inTwilight(0)) place(zone, point, (to * state.freedom.x) / one14, (to * state.freedom.y) / one14);
  const at = run.project(zone.x[point]!, zone.y[point]!);
  if (op & 1) {
    if (Math.abs(to - at) > state.cutIn) to = at;
    to = roundBy(state.rounding, to);
  }
  run.move(zone, point, to - at);
  state.rp[0] = state.rp[1] = point;
}

function place(zone: Zone, point: number, x: number, y: number): void {
  zone.originalX[point] = zone.x[point] = round(x);
  zone.originalY[point] = zone.y[point] = round(y);
}

function directRelative(run: Interpreter, op: number): void {
  const { state } = run;
  const [from, to] = [run.zone(0), run.zone(1)];
  const point = run.check(to, run.pop());
  const reference = run.check(from, state.rp[0]);
  let original = run.originalDistance(to, point, from, reference, run.inTwilight(0, 1));
  if (Math.abs(Math.abs(original) - state.singleWidth) < state.singleWidthCutIn) {
    original = original < 0 ? -state.singleWidth : state.singleWidth;
  }
  const wanted = keepApart(run, op, original, op & 4 ? roundBy(state.rounding, original) : original);
  run.move(to, point, wanted - run.distance(to, point, from, reference));
  state.rp[1] = reference;
  state.rp[2] = point;
  if (op & 16) state.rp[0] = point;
}

function indirectRelative(run: Interpreter, op: number): void {
  const { state } = run;
  let wanted = run.controlValue(run.pop());
  const [from, to] = [run.zone(0), run.zone(1)];
  const point = run.check(to, run.pop());
  const reference = run.check(from, state.rp[0]);
  if (Math.abs(Math.abs(wanted) - state.singleWidth) < state.singleWidthCutIn) {
    wanted = wanted < 0 ? -state.singleWidth : state.singleWidth;
  }
  if (run.inTwilight(1)) {
    const { freedom } = state;
    place(
      to,
      point,
      from.originalX[reference]! + (wanted * freedom.x) / one14,
      from.originalY[reference]! + (wanted * freedom.y) / one14,
    );
  }
  const original = run.originalDistance(to, point, from, reference, true);
  const now = run.distance(to, point, from, reference);
  if (state.autoFlip && original < 0 !== wanted < 0) wanted = -wanted;
  if (op & 4) {
    if (state.zp[0] === state.zp[1] && Math.abs(wanted - original) > state.cutIn) wanted = original;
    wanted = roundBy(state.rounding, wanted);
  }
  run.move(to, point, keepApart(run, op, original, wanted) - now);
  state.rp[1] = reference;
  if (op & 16) state.rp[0] = point;
  state.rp[2] = point;
}

/** The least distance of MDRP and MIRP, on the side where the point was. */
function keepApart({ state }: Interpreter, op: number, original: number, wanted: number): number {
  if (!(op & 8)) return wanted;
  return original >= 0 ? Math.max(wanted, state.minimumDistance) : Math.min(wanted, -state.minimumDistance);
}

function stackRelative(run: Interpreter, op: number): void {
  const { state } = run;
  const wanted = run.pop();
  const [from, to] = [run.zone(0), run.zone(1)];
  const point = run.check(to, run.pop());
  const reference = run.check(from, state.rp[0]);
  if (run.inTwilight(1)) {
    const { x, y } = run.displacement(wanted);
    place(to, point, from.originalX[reference]! + x, from.originalY[reference]! + y);
  }
  run.move(to, point, wanted - run.distance(to, point, from, reference));
  state.rp[1] = reference;
  state.rp[2] = point;
  if (op & 1) state.rp[0] = point;
}

function interpolate(run: Interpreter): void {
  const { state } = run;
  const twilight = run.inTwilight(0, 1, 2);
  const [first, second, zone] = [run.zone(0), run.zone(1), run.zone(2)];
  const start = run.check(first, state.rp[1]);
  const end = run.check(second, state.rp[2]);
  const oldRange = run.originalDistance(second, end, first, start, twilight);
  const range = run.distance(second, end, first, start);
  loop(run, (popped) => {
    const point = run.check(zone, popped);
    const original = run.originalDistance(zone, point, first, start, twilight);
    const wanted = oldRange === 0 ? original : round((original * range) / oldRange);
    run.move(zone, point, wanted - run.distance(zone, point, first, start));
  });
}

function alignToReference(run: Interpreter): void {
  const [from, to] = [run.zone(0), run.zone(1)];
  const reference = run.check(from, run.state.rp[0]);
  loop(run, (popped) => {
    const point = run.check(to, popped);
    run.move(to, point, -run.distance(to, point, from, reference));
  });
}

function alignPoints(run: Interpreter): void {
  const [zoneA, zoneB] = [run.zone(1), run.zone(0)];
  const second = run.check(zoneB, run.pop());
  const first = run.check(zoneA, run.pop());
  const half = Math.trunc(run.distance(zoneB, second, zoneA, first) / 2);
  run.move(zoneA, first, half);
  run.move(zoneB, second, -half);
}

function intersect(run: Interpreter): void {
  const [zone, zoneA, zoneB] = [run.zone(2), run.zone(1), run.zone(0)];
  const b1 = run.check(zoneB, run.pop());
  const b0 = run.check(zoneB, run.pop());
  const a1 = run.check(zoneA, run.pop());
  const a0 = run.check(zoneA, run.pop());
  const point = run.check(zone, run.pop());
  const [ax, ay] = [zoneA.x[a1]! - zoneA.x[a0]!, zoneA.y[a1]! - zoneA.y[a0]!];
  const [bx, by] = [zoneB.x[b1]! - zoneB.x[b0]!, zoneB.y[b1]! - zoneB.y[b0]!];
  const [dx, dy] = [zoneB.x[b0]! - zoneA.x[a0]!, zoneB.y[b0]! - zoneA.y[a0]!];
  const cross = ay * bx - ax * by;
  zone.touchedX[point] = zone.touchedY[point] = 1;
  // Below an angle of about three degrees the lines count as parallel.
  if (19 * Math.abs(cross) > Math.abs(ax * bx + ay * by)) {
    const share = (dy * bx - dx * by) / cross;
    zone.x[point] = zoneA.x[a0]! + round(share * ax);
    zone.y[point] = zoneA.y[a0]! + round(share * ay);
  } else {
    zone.x[point] = Math.trunc((zoneA.x[a0]! + zoneA.x[a1]! + zoneB.x[b0]! + zoneB.x[b1]!) / 4);
    zone.y[point] = Math.trunc((zoneA.y[a0]! + zoneA.y[a1]! + zoneB.y[b0]! + zoneB.y[b1]!) / 4);
  }
}

function untouch(run: Interpreter): void {
  const zone = run.zone(0);
  const point = run.check(zone, run.pop());
  if (run.state.freedom.x !== 0) zone.touchedX[point] = 0;
  if (run.state.freedom.y !== 0) zone.touchedY[point] = 0;
}

/** How far the reference point of SHP, SHC and SHZ has moved. */
function referenceMove(run: Interpreter, op: number): { x: number; y: number; zone: Zone; point: number } {
  const zone = run.zone(op & 1 ? 0 : 1);
  const point = run.check(zone, run.state.rp[op & 1 ? 1 : 2]);
  const by = run.project(zone.x[point]! - zone.originalX[point]!, zone.y[point]! - zone.originalY[point]!);
  return { ...run.displacement(by), zone, point };
}

function shiftPoints(run: Interpreter, op: number): void {
  const { x, y } = referenceMove(run, op);
  const zone = run.zone(2);
  loop(run, (popped) => run.shift(zone, run.check(zone, popped), x, y, true));
}

function shiftContour(run: Interpreter, op: number): void {
  const contour = run.pop();
  const { x, y, zone: from, point: reference } = referenceMove(run, op);
  const zone = run.zone(2);
  const start = contour === 0 ? 0 : (zone.ends[contour - 1] ?? zone.count) + 1;
  const end = run.inTwilight(2) ? zone.count - 1 : (zone.ends[contour] ?? -1);
  run.spend(end - start);
  for (let point = start; point <= end; point++)
    if (zone !== from || point !== reference) run.shift(zone, point, x, y, true);
}

function shiftZone(run: Interpreter, op: number): void {
  run.pop(); // the zone: ZP2 in fact
  const { x, y, zone: from, point: reference } = referenceMove(run, op);
  const zone = run.zone(2);
  const end = run.inTwilight(2) ? zone.count - 1 : (zone.ends.at(-1) ?? -1);
  run.spend(end);
  for (let point = 0; point <= end; point++)
    if (zone !== from || point !== reference) run.shift(zone, point, x, y, false);
}

function shiftByPixels(run: Interpreter): void {
  const by = run.pop();
  const { freedom } = run.state;
  const [x, y] = [round((by * freedom.x) / one14), round((by * freedom.y) / one14)];
  const zone = run.zone(2);
  loop(run, (popped) => {
    const point = run.check(zone, popped);
    if (!run.compatible || run.inTwilight(0, 1, 2)) run.shift(zone, point, x, y, true);
    else if (mayAdjust(run, zone, point)) run.shift(zone, point, 0, y, true);
  });
}

/** Fine adjustments reach only what is touched along y, and composites along y. */
function mayAdjust(run: Interpreter, zone: Zone, point: number): boolean {
  return !run.frozen && ((run.composite && run.state.freedom.y !== 0) || zone.touchedY[point] === 1);
}

function deltaPoints(run: Interpreter, base: number): void {
  const zone = run.zone(0);
  deltas(run, base, (point, by) => {
    if (point < 0 || point >= zone.count) return; // old fonts do it; FreeType lets it pass
    if (!run.compatible || mayAdjust(run, zone, point)) run.move(zone, point, by);
  });
}

function deltaControlValues(run: Interpreter, base: number): void {
  deltas(run, base, (index, by) => run.addToControlValue(index, by));
}

/** Calls back for every exception that is meant for this size. */
function deltas(run: Interpreter, base: number, apply: (target: number, by: number) => void): void {
  for (let count = run.pop(); count > 0; count--) {
    const target = run.pop();
    const exception = run.pop();
    if (run.memory.ppem !== run.state.deltaBase + base + ((exception >> 4) & 15)) continue;
    const steps = (exception & 15) - 8;
    apply(target, (steps >= 0 ? steps + 1 : steps) * (1 << (6 - run.state.deltaShift)));
  }
}

function getCoordinate(run: Interpreter, op: number): void {
  const zone = run.zone(2);
  const point = run.check(zone, run.pop());
  const original = op & 1;
  run.push(
    original
      ? run.dualProject(zone.originalX[point]!, zone.originalY[point]!)
      : run.project(zone.x[point]!, zone.y[point]!),
  );
}

function setCoordinate(run: Interpreter): void {
  const to = run.pop();
  const zone = run.zone(2);
  const point = run.check(zone, run.pop());
  run.move(zone, point, to - run.project(zone.x[point]!, zone.y[point]!));
  if (run.inTwilight(2)) {
    zone.originalX[point] = zone.x[point]!;
    zone.originalY[point] = zone.y[point]!;
  }
}

function measureDistance(run: Interpreter, op: number): void {
  const [zoneA, zoneB] = [run.zone(0), run.zone(1)];
  const second = run.check(zoneB, run.pop());
  const first = run.check(zoneA, run.pop());
  run.push(
    op === 0x49
      ? run.distance(zoneA, first, zoneB, second)
      : run.originalDistance(zoneA, first, zoneB, second, run.inTwilight(0, 1)),
  );
}

function interpolateUntouched(run: Interpreter, op: number): void {
  const { glyph } = run;
  if (run.frozen) return;
  run.spend(glyph.count);
  const alongX = (op & 1) === 1;
  if (alongX) run.interpolated.x = true;
  else run.interpolated.y = true;
  const [now, original, unscaled, touched] = alongX
    ? [glyph.x, glyph.originalX, glyph.unscaledX, glyph.touchedX]
    : [glyph.y, glyph.originalY, glyph.unscaledY, glyph.touchedY];
  let start = 0;
  for (const end of glyph.ends) {
    const anchors: number[] = [];
    for (let point = start; point <= end; point++) if (touched[point]) anchors.push(point);
    for (const [i, anchor] of anchors.entries()) {
      const next = anchors[(i + 1) % anchors.length]!;
      // The points from one touched point to the next, around the contour.
      for (let p = anchor === end ? start : anchor + 1; p !== next; p = p === end ? start : p + 1) {
        now[p] = between(anchor, next, p);
      }
    }
    start = end + 1;
  }

  function between(a: number, b: number, point: number): number {
    const [low, high] = unscaled[a]! <= unscaled[b]! ? [a, b] : [b, a];
    const [lowMove, highMove] = [now[low]! - original[low]!, now[high]! - original[high]!];
    if (original[point]! <= original[low]!) return original[point]! + lowMove;
    if (original[point]! >= original[high]!) return original[point]! + highMove;
    const share = (unscaled[point]! - unscaled[low]!) / (unscaled[high]! - unscaled[low]!);
    return now[low]! + round(share * (now[high]! - now[low]!));
  }
}

function flipPoints(run: Interpreter): void {
  loop(run, (popped) => {
    const point = run.check(run.glyph, popped);
    if (!run.frozen) run.glyph.onCurve[point] = run.glyph.onCurve[point] ? 0 : 1;
  });
}

function flipRange(run: Interpreter, to: 0 | 1): void {
  const high = run.check(run.glyph, run.pop());
  const low = run.check(run.glyph, run.pop());
  run.spend(high - low);
  if (!run.frozen) for (let point = low; point <= high; point++) run.glyph.onCurve[point] = to;
}
