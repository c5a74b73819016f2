/**
 * Runs TrueType instructions as FreeType's interpreter version 40 does for smooth text: moves along x are ignored, so
 * are moves after both IUPs, and deltas move only points that are touched along y.
 *
 * @see https://learn.microsoft.com/en-us/typography/opentype/spec/tt_instructions
 * @see https://freetype.org/freetype2/docs/hinting/subpixel-hinting.html
 */
import { round, roundBy } from "./fixed.ts";
import { movePoints } from "./moves.ts";
import { Points } from "./points.ts";
import { changeState } from "./settings.ts";
import { type GraphicsState, HintingError, type Zone } from "./state.ts";

/** Work that one program may do, and values it may keep. */
const maxSteps = 300_000;
const maxStack = 16_384;
const maxCalls = 64;

/** What programs of a font share. */
export interface Memory {
  readonly functions: Map<number, { readonly code: Uint8Array; readonly start: number }>;
  readonly storage: Int32Array;
  /** Control values in 64ths of a pixel. */
  readonly cvt: Float64Array;
  readonly twilight: Zone;
  readonly ppem: number;
  readonly unitsPerEm: number;
}

/** One run of one program. */
export class Interpreter extends Points {
  readonly memory: Memory;
  readonly composite: boolean;
  #code: Uint8Array;
  #at = 0;
  #budget = maxSteps;
  #depth = 0;
  readonly stack: number[] = [];

  constructor(code: Uint8Array, memory: Memory, state: GraphicsState, glyph: Zone, composite: boolean) {
    super(state, memory.twilight, glyph, composite ? 1 : (memory.ppem * 64) / memory.unitsPerEm);
    this.memory = memory;
    this.composite = composite;
    this.#code = code;
  }

  /** Runs to the end. @throws {HintingError} */
  run(): void {
    this.compatible = (this.state.instructControl & 4) === 0;
    while (this.#at < this.#code.length) this.#step();
  }

  /** Counts work. @throws {HintingError} when it is too much */
  spend(steps: number): void {
    this.#budget -= Math.max(0, steps);
    if (this.#budget < 0) throw new HintingError(`more than ${maxSteps} steps`);
  }

  /** Takes the last value of the stack. */
  pop(): number {
    const value = this.stack.pop();
    if (value === undefined) throw new HintingError("the stack is empty");
    return value;
  }

  /** Adds a value of 32 bits to the stack. */
  push(value: number): void {
    if (this.stack.length >= maxStack) throw new HintingError("the stack is full");
    this.stack.push(value | 0);
  }

  #byte(): number {
    const value = this.#code[this.#at++];
    if (value === undefined) throw new HintingError("a program ends within an instruction");
    return value;
  }

  #step(): void {
    this.spend(1);
    const op = this.#byte();
    if (op >= 0xb0 && op < 0xc0) this.#pushes(op & 8, (op & 7) + 1);
    else if (op === 0x40 || op === 0x41) this.#pushes(op & 1, this.#byte());
    else if (op >= 0x60 && op <= 0x6f) this.#arithmetic(op);
    else if (!this.#control(op) && !this.#values(op) && !changeState(this, op) && !movePoints(this, op)) {
      throw new HintingError(`unknown instruction 0x${op.toString(16)}`);
    }
  }

  #arithmetic(op: number): void {
    const right = this.pop();
    const left = op < 0x64 ? this.pop() : 0;
    if (op === 0x62 && right === 0) throw new HintingError("a division by zero");
    switch (op) {
      case 0x60: // ADD
        return this.push(left + right);
      case 0x61: // SUB
        return this.push(left - right);
      case 0x62: // DIV
        return this.push(Math.trunc((left * 64) / right));
      case 0x63: // MUL
        return this.push(round((left * right) / 64));
      case 0x64: // ABS
        return this.push(Math.abs(right));
      case 0x65: // NEG
        return this.push(-right);
      case 0x66: // FLOOR
        return this.push(right & ~63);
      case 0x67: // CEILING
        return this.push((right + 63) & ~63);
      default: // ROUND; NROUND leaves the value as it is
        return this.push(op < 0x6c ? roundBy(this.state.rounding, right) : right);
    }
  }

  #pushes(words: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const high = this.#byte();
      this.push(words ? ((high << 24) >> 16) | this.#byte() : high);
    }
  }

  #control(op: number): boolean {
    switch (op) {
      case 0x1b: // ELSE, reached from a branch that was taken
        this.#skip(false);
        return true;
      case 0x1c: // JMPR
        this.#jump(this.pop());
        return true;
      case 0x78: // JROT
      case 0x79: {
        // JROF
        const condition = this.pop();
        const offset = this.pop();
        if ((condition !== 0) === (op === 0x78)) this.#jump(offset);
        return true;
      }
      case 0x58: // IF
        if (this.pop() === 0) this.#skip(true);
        return true;
      case 0x59: // EIF
        return true;
      case 0x2a: {
        // LOOPCALL
        const name = this.pop();
        for (let count = this.pop(); count > 0; count--) this.#call(name);
        return true;
      }
      case 0x2b: // CALL
        this.#call(this.pop());
        return true;
      case 0x2c: {
        // FDEF
        const name = this.pop();
        if (this.memory.functions.size > 4096) throw new HintingError("too many functions");
        const start = this.#at;
        this.memory.functions.set(name, { code: this.#code, start });
        while (this.#byte() !== 0x2d) this.#skipOperands();
        this.#spendBytes(start);
        return true;
      }
      case 0x2d: // ENDF
        this.#at = this.#code.length;
        return true;
      default:
        return false;
    }
  }

  #jump(offset: number): void {
    this.#at += offset - 1;
    if (this.#at < 0 || this.#at > this.#code.length) throw new HintingError("a jump out of the program");
  }

  /** Goes on after the matching ELSE or EIF. */
  #skip(stopAtElse: boolean): void {
    const start = this.#at;
    for (let depth = 1; depth > 0;) {
      const op = this.#byte();
      if (op === 0x58) depth++;
      else if (op === 0x59 || (op === 0x1b && depth === 1 && stopAtElse)) depth--;
      else this.#skipOperands();
    }
    this.#spendBytes(start);
  }

  /** Counts bytes that were only stepped over, which a loop could do again and again. */
  #spendBytes(start: number): void {
    this.spend((this.#at - start) >> 4);
  }

  /** Steps over the bytes that the push just read brings along. */
  #skipOperands(): void {
    const op = this.#code[this.#at - 1]!;
    if (op === 0x40) this.#at += 1 + (this.#code[this.#at] ?? 0);
    else if (op === 0x41) this.#at += 1 + 2 * (this.#code[this.#at] ?? 0);
    else if (op >= 0xb0 && op <= 0xb7) this.#at += (op & 7) + 1;
    else if (op >= 0xb8 && op <= 0xbf) this.#at += 2 * ((op & 7) + 1);
  }

  #call(name: number): void {
    const found = this.memory.functions.get(name);
    if (!found) throw new HintingError(`no function ${name}`);
    if (++this.#depth > maxCalls) throw new HintingError("calls too deep");
    const [code, at] = [this.#code, this.#at];
    [this.#code, this.#at] = [found.code, found.start];
    while (this.#at < this.#code.length) this.#step();
    [this.#code, this.#at] = [code, at];
    this.#depth--;
  }

  #values(op: number): boolean {
    const { stack, memory } = this;
    switch (op) {
      case 0x20: {
        // DUP
        const value = this.pop();
        this.push(value);
        this.push(value);
        return true;
      }
      case 0x21: // POP
        this.pop();
        return true;
      case 0x22: // CLEAR
        stack.length = 0;
        return true;
      case 0x23: {
        // SWAP
        const [last, first] = [this.pop(), this.pop()];
        this.push(last);
        this.push(first);
        return true;
      }
      case 0x24: // DEPTH
        this.push(stack.length);
        return true;
      case 0x25: // CINDEX
        this.push(this.#fromTop(this.pop()));
        return true;
      case 0x26: {
        // MINDEX
        const index = this.pop();
        const value = this.#fromTop(index);
        this.spend(index >> 4);
        stack.splice(stack.length - index, 1);
        this.push(value);
        return true;
      }
      case 0x8a: {
        // ROLL
        const [a, b, c] = [this.pop(), this.pop(), this.pop()];
        for (const value of [b, a, c]) this.push(value);
        return true;
      }
      case 0x42: {
        // WS
        const value = this.pop();
        memory.storage[this.#index(this.pop(), memory.storage.length)] = value;
        return true;
      }
      case 0x43: // RS
        this.push(memory.storage[this.#index(this.pop(), memory.storage.length)]!);
        return true;
      case 0x44: // WCVTP
      case 0x70: {
        // WCVTF
        const value = this.pop();
        memory.cvt[this.#index(this.pop(), memory.cvt.length)] = op === 0x44 ? value : round(value * this.scale);
        return true;
      }
      case 0x45: // RCVT
        this.push(this.controlValue(this.pop()));
        return true;
      case 0x4b: // MPPEM
      case 0x4c: // MPS
        this.push(memory.ppem);
        return true;
      case 0x4f: // DEBUG
        this.pop();
        return true;
      case 0x56: // ODD
      case 0x57: // EVEN
        this.push(((roundBy(this.state.rounding, this.pop()) & 127) === 64) === (op === 0x56) ? 1 : 0);
        return true;
      case 0x5c: // NOT
        this.push(this.pop() === 0 ? 1 : 0);
        return true;
      case 0x88: // GETINFO
        this.push(information(this.pop()));
        return true;
      default:
        return this.#compare(op);
    }
  }

  #compare(op: number): boolean {
    const compare = comparisons[op];
    if (!compare) return false;
    const right = this.pop();
    this.push(Number(compare(this.pop(), right)));
    return true;
  }

  /** A control value; 0 where there is none, as FreeType reads it. */
  controlValue(index: number): number {
    return this.memory.cvt[index] ?? 0;
  }

  /** DELTAC: adds to a control value. */
  addToControlValue(index: number, by: number): void {
    this.memory.cvt[this.#index(index, this.memory.cvt.length)]! += by;
  }

  #fromTop(index: number): number {
    const value = this.stack[this.stack.length - index];
    if (index < 1 || value === undefined) throw new HintingError("an index beyond the stack");
    return value;
  }

  #index(index: number, count: number): number {
    if (index < 0 || index >= count) throw new HintingError(`index ${index} of ${count}`);
    return index;
  }
}

const comparisons: Readonly<Record<number, (a: number, b: number) => boolean | number>> = {
  0x50: (a, b) => a < b,
  0x51: (a, b) => a <= b,
  0x52: (a, b) => a > b,
  0x53: (a, b) => a >= b,
  0x54: (a, b) => a === b,
  0x55: (a, b) => a !== b,
  0x5a: (a, b) => a !== 0 && b !== 0,
  0x5b: (a, b) => a !== 0 || b !== 0,
  0x8b: (a, b) => Math.max(a, b),
  0x8c: (a, b) => Math.min(a, b),
};

/** What GETINFO says: interpreter 40, ClearType with gray levels, positioned and smoothed along both axes. */
function information(selector: number): number {
  let result = selector & 1 ? 40 : 0;
  for (const [asked, answer] of [
    [6, 13],
    [10, 17],
    [11, 18],
    [12, 19],
  ] as const) {
    if (selector & (1 << asked)) result |= 1 << answer;
  }
  return result;
}
