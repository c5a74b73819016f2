/** The instructions that set the graphics state. */
import { generalRounding, round, unit } from "./fixed.ts";
import type { Interpreter } from "./interpreter.ts";
import { HintingError } from "./state.ts";

/** Runs one instruction that sets the graphics state, other than its vectors; false when it is none of these. */
export function changeState(run: Interpreter, op: number): boolean {
  const { state } = run;
  switch (op) {
    case 0x10: // SRP0, SRP1, SRP2
    case 0x11:
    case 0x12:
      state.rp[op - 0x10] = run.pop();
      return true;
    case 0x13: // SZP0, SZP1, SZP2
    case 0x14:
    case 0x15:
      state.zp[op - 0x13] = zonePointer(run.pop());
      return true;
    case 0x16: {
      // SZPS
      const zone = zonePointer(run.pop());
      state.zp = [zone, zone, zone];
      return true;
    }
    case 0x17: // SLOOP
      state.loop = Math.min(Math.max(run.pop(), 0), 0xffff);
      return true;
    case 0x18: // RTG
    case 0x19: // RTHG
      state.rounding = op === 0x18 ? "grid" : "half";
      return true;
    case 0x1a: // SMD
      state.minimumDistance = run.pop();
      return true;
    case 0x1d: // SCVTCI
      state.cutIn = run.pop();
      return true;
    case 0x1e: // SSWCI
      state.singleWidthCutIn = run.pop();
      return true;
    case 0x1f: // SSW
      state.singleWidth = round(run.pop() * run.scale);
      return true;
    case 0x3d: // RTDG
      state.rounding = "double";
      return true;
    case 0x4d: // FLIPON
    case 0x4e: // FLIPOFF
      state.autoFlip = op === 0x4d;
      return true;
    case 0x5e: // SDB
      state.deltaBase = run.pop();
      return true;
    case 0x5f: // SDS
      state.deltaShift = Math.min(Math.max(run.pop(), 0), 6);
      return true;
    case 0x76: // SROUND
    case 0x77: // S45ROUND
      state.rounding = generalRounding(run.pop(), op === 0x76 ? 64 : 64 * Math.SQRT1_2);
      return true;
    case 0x7a: // ROFF
      state.rounding = "off";
      return true;
    case 0x7c: // RUTG
    case 0x7d: // RDTG
      state.rounding = op === 0x7c ? "up" : "down";
      return true;
    case 0x7e: // SANGW
    case 0x7f: // AA
    case 0x85: // SCANCTRL
    case 0x8d: // SCANTYPE
      run.pop();
      return true;
    case 0x8e: {
      // INSTCTRL
      const [selector, value] = [run.pop(), run.pop()];
      if (selector >= 1 && selector <= 3) {
        const bit = 1 << (selector - 1);
        state.instructControl = value === 0 ? state.instructControl & ~bit : state.instructControl | bit;
        if (selector === 3) run.compatible = value === 0;
      }
      return true;
    }
    default:
      return changeVectors(run, op);
  }
}

function changeVectors(run: Interpreter, op: number): boolean {
  const { state } = run;
  if (op <= 0x05) {
    // SVTCA, SPVTCA, SFVTCA
    const axis = op & 1 ? unit(1, 0) : unit(0, 1);
    if (op < 4) state.projection = state.dual = axis;
    if (op < 2 || op > 3) state.freedom = axis;
    return true;
  }
  if (op <= 0x09) {
    // SPVTL, SFVTL
    const [second, first] = [run.pop(), run.pop()];
    const vector = run.direction(first, second, op & 1, false);
    if (op < 8) state.projection = state.dual = vector;
    else state.freedom = vector;
    return true;
  }
  switch (op) {
    case 0x0a: // SPVFS
    case 0x0b: {
      // SFVFS
      const [y, x] = [run.pop(), run.pop()];
      const vector = unit((x << 16) >> 16, (y << 16) >> 16);
      if (op === 0x0a) state.projection = state.dual = vector;
      else state.freedom = vector;
      return true;
    }
    case 0x0c: // GPV
    case 0x0d: {
      // GFV
      const { x, y } = op === 0x0c ? state.projection : state.freedom;
      run.push(x);
      run.push(y);
      return true;
    }
    case 0x0e: // SFVTPV
      state.freedom = state.projection;
      return true;
    case 0x86: // SDPVTL
    case 0x87: {
      const [second, first] = [run.pop(), run.pop()];
      state.dual = run.direction(first, second, op & 1, true);
      state.projection = run.direction(first, second, op & 1, false);
      return true;
    }
    default:
      return false;
  }
}

function zonePointer(index: number): number {
  if (index !== 0 && index !== 1) throw new HintingError(`no zone ${index}`);
  return index;
}
