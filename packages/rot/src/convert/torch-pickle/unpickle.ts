/**
 * Reads pickles of protocols 2 to 5 as data. The opcodes are a closed list, the globals are the caller's; nothing of
 * Python is ever looked up or called. Memory is bounded by the bytes given and the limits below, and nothing recurses.
 *
 * @see https://docs.python.org/3/library/pickletools.html
 */
import { type Fail, quote } from "./error.ts";
import { opcodeNames, op, refused } from "./opcodes.ts";
import { Callable, Opaque, type PickleValue, Tuple } from "./values.ts";

/** What the owner of the pickle decides. */
export interface UnpickleOptions {
  /** Called with the first fault; must throw. */
  readonly fail: Fail;
  /** What the global `module.name` stands for. Throws for one that is not wanted. */
  readonly resolve: (module: string, name: string, offset: number) => PickleValue;
  /** What a persistent id stands for. */
  readonly persistent: (id: PickleValue) => PickleValue;
}

/** A checkpoint of a thousand layers stays far below each. */
const limits = { opcodes: 4_000_000, containers: 500_000, memo: 1_000_000, integerBytes: 1024 };

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads one pickle.
 *
 * @param bytes where it is
 * @param begin its first byte
 * @returns its value, and the byte after its last
 */
export function unpickle(
  bytes: Uint8Array,
  begin: number,
  { fail, resolve, persistent }: UnpickleOptions,
): { value: PickleValue; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: PickleValue[] = [];
  const marks: number[] = [];
  const memo = new Map<number, PickleValue>();
  let at = begin;
  let opcode = 0;
  let opcodeAt = begin;
  let containers = 0;

  const here = (): string => `${opcodeNames.get(opcode) ?? "opcode"} at byte ${opcodeAt} of the pickle`;
  const broken = (message: string): never => fail("pickle", `${here()}: ${message}`);

  /** Moves over `length` bytes; returns where they begin. */
  function take(length: number): number {
    if (length > bytes.length - at) broken(`${length} bytes wanted, but only ${bytes.length - at} are left`);
    at += length;
    return at - length;
  }
  const u8 = (): number => view.getUint8(take(1));
  const u32 = (): number => view.getUint32(take(4), true);
  function u64(): number {
    const value = view.getBigUint64(take(8), true);
    return value > BigInt(bytes.length) ? broken(`a length of ${value} bytes`) : Number(value);
  }
  function text(length: number): string {
    const from = take(length);
    try {
      return decoder.decode(bytes.subarray(from, from + length));
    } catch {
      return broken("a string that is not UTF-8");
    }
  }
  function raw(length: number): Uint8Array {
    const from = take(length);
    return bytes.slice(from, from + length);
  }
  function line(): string {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0 || end - at > 256) broken("a name without an end");
    const name = text(end - at);
    at++;
    return name;
  }
  function integer(length: number): number | bigint {
    if (length > limits.integerBytes) fail("limit", `${here()}: an integer of ${length} bytes`);
    const from = take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(from + i));
    value = BigInt.asIntN(8 * length, value);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  const push = (value: PickleValue): void => void stack.push(value);
  /** What lies above the last mark cannot be taken without taking the mark. */
  const floor = (): number => marks.at(-1) ?? 0;
  function pop(): PickleValue {
    if (stack.length <= floor()) broken("the stack is empty");
    return stack.pop() as PickleValue;
  }
  function top(): PickleValue {
    if (stack.length <= floor()) broken("the stack is empty");
    return stack.at(-1) as PickleValue;
  }
  function popToMark(): PickleValue[] {
    const mark = marks.pop() ?? broken("no mark");
    return stack.splice(mark);
  }
  function container<T extends PickleValue>(value: T): T {
    if (++containers > limits.containers) fail("limit", `${here()}: more than ${limits.containers} containers`);
    return value;
  }
  function remember(index: number): void {
    if (memo.size >= limits.memo) fail("limit", `${here()}: more than ${limits.memo} memo entries`);
    memo.set(index, top());
  }
  function recall(index: number): PickleValue {
    const value = memo.get(index);
    return value === undefined ? broken(`memo ${index} was never written`) : value;
  }
  function list(): PickleValue[] {
    const target = top();
    return Array.isArray(target) ? target : broken("what is appended to is no list");
  }
  function setItems(items: readonly PickleValue[]): void {
    const target = top();
    if (target instanceof Opaque) return;
    if (!(target instanceof Map)) return broken("what items are set in is no dict");
    if (items.length % 2 !== 0) broken("a key without a value");
    for (let i = 0; i < items.length; i += 2) target.set(items[i] as PickleValue, items[i + 1] as PickleValue);
  }
  function reduce(): PickleValue {
    const parameters = pop();
    const called = pop();
    if (!(parameters instanceof Tuple)) return broken("the parameters are no tuple");
    if (called instanceof Opaque) return called;
    if (!(called instanceof Callable)) return broken("what is called is no function of the list");
    return container(called.call(parameters.items));
  }
  /** An object of a class whose values nobody needs. Of any other class it is refused. */
  function newObject(): PickleValue {
    const [parameters, made] = [pop(), pop()];
    return parameters instanceof Tuple && made instanceof Opaque ? made : refuse();
  }
  /** Python's way to restore attributes. State dicts have one, `_metadata` with versions of modules; no tensor depends on it. */
  function build(): void {
    const state = pop();
    const target = top();
    if (target instanceof Opaque) return;
    if (!(target instanceof Map && state instanceof Map))
      fail("opcode", `${here()}: only an OrderedDict may have attributes`);
  }
  function stackGlobal(): PickleValue {
    const name = pop();
    const module = pop();
    if (typeof name !== "string" || typeof module !== "string") return broken("a global is two strings");
    return resolve(module, name, opcodeAt);
  }

  /** What each opcode does; STOP and those that are refused are not here. */
  const actions: Partial<Record<number, () => void>> = {
    [op.PROTO]() {
      const protocol = u8();
      if (protocol < 2 || protocol > 5) broken(`protocol ${protocol}, not 2 to 5`);
    },
    [op.FRAME]: () => void u64(), // only a hint for readers that stream
    [op.MARK]: () => void marks.push(stack.length),
    [op.NONE]: () => push(null),
    [op.NEWTRUE]: () => push(true),
    [op.NEWFALSE]: () => push(false),
    [op.BININT]: () => push(view.getInt32(take(4), true)),
    [op.BININT1]: () => push(u8()),
    [op.BININT2]: () => push(view.getUint16(take(2), true)),
    [op.LONG1]: () => push(integer(u8())),
    [op.LONG4]: () => push(integer(u32())),
    [op.BINFLOAT]: () => push(view.getFloat64(take(8))),
    [op.SHORT_BINUNICODE]: () => push(text(u8())),
    [op.SHORT_BINSTRING]: () => push(text(u8())),
    [op.BINUNICODE]: () => push(text(u32())),
    [op.BINSTRING]: () => push(text(u32())),
    [op.BINUNICODE8]: () => push(text(u64())),
    [op.SHORT_BINBYTES]: () => push(raw(u8())),
    [op.BINBYTES]: () => push(raw(u32())),
    [op.BINBYTES8]: () => push(raw(u64())),
    [op.BYTEARRAY8]: () => push(raw(u64())),
    [op.EMPTY_LIST]: () => push(container([])),
    [op.EMPTY_DICT]: () => push(container(new Map())),
    [op.EMPTY_SET]: () => push(container(new Set())),
    [op.EMPTY_TUPLE]: () => push(container(new Tuple([]))),
    [op.TUPLE]: () => push(container(new Tuple(popToMark()))),
    [op.TUPLE1]: () => push(container(new Tuple([pop()]))),
    [op.TUPLE2]() {
      const [b, a] = [pop(), pop()];
      push(container(new Tuple([a, b])));
    },
    [op.TUPLE3]() {
      const [c, b, a] = [pop(), pop(), pop()];
      push(container(new Tuple([a, b, c])));
    },
    [op.FROZENSET]: () => push(container(new Set(popToMark()))),
    [op.APPEND]() {
      const item = pop();
      list().push(item);
    },
    [op.APPENDS]() {
      const items = popToMark();
      const target = list();
      for (const item of items) target.push(item);
    },
    [op.ADDITEMS]() {
      const items = popToMark();
      const target = top();
      if (!(target instanceof Set)) return broken("what is added to is no set");
      for (const item of items) target.add(item);
    },
    [op.SETITEM]() {
      const [value, key] = [pop(), pop()];
      setItems([key, value]);
    },
    [op.SETITEMS]: () => setItems(popToMark()),
    [op.BINPUT]: () => remember(u8()),
    [op.LONG_BINPUT]: () => remember(u32()),
    [op.MEMOIZE]: () => remember(memo.size),
    [op.BINGET]: () => push(recall(u8())),
    [op.LONG_BINGET]: () => push(recall(u32())),
    [op.GLOBAL]: () => push(resolve(line(), line(), opcodeAt)),
    [op.STACK_GLOBAL]: () => push(stackGlobal()),
    [op.BINPERSID]: () => push(persistent(pop())),
    [op.REDUCE]: () => push(reduce()),
    [op.BUILD]: build,
    [op.NEWOBJ]: () => push(newObject()),
  };

  function refuse(): never {
    const name = refused.get(opcode) ?? opcodeNames.get(opcode);
    const number = `0x${opcode.toString(16).padStart(2, "0")}`;
    // INST names what it would make, which is the most telling part of the message.
    const made = name === "INST" ? ` of ${quote(`${line()}.${line()}`)}` : "";
    return fail(
      "opcode",
      `opcode ${name ?? "unknown"} (${number})${made} at byte ${opcodeAt} of the pickle is not allowed`,
    );
  }

  for (let count = 0; ; count++) {
    opcodeAt = at;
    if (at >= bytes.length) fail("pickle", `the pickle ends at byte ${at} without STOP`);
    if (count > limits.opcodes) fail("limit", `more than ${limits.opcodes} opcodes at byte ${at} of the pickle`);
    opcode = u8();
    if (opcode === op.STOP) break;
    (actions[opcode] ?? refuse)();
  }
  const value = pop();
  if (stack.length > 0 || marks.length > 0) broken("values are left on the stack");
  return { value, end: at };
}
