/**
 * An interpreter for templates from strangers: `@huggingface/jinja` has no limits of its own, and
 * `{% for i in range(200000000) %}` would end the process.
 */

import { type Environment, Interpreter, type RuntimeValue, type Statement } from "@huggingface/jinja";
import { TemplateError } from "./error.ts";
import { weigh } from "./value.ts";

/** Evaluations in one rendering; a chat of a thousand messages takes about a hundred thousand. */
const maxSteps = 2 ** 21;
/** Levels of nodes, macros calling macros included. The stack of a thread holds several times as many. */
const maxDepth = 400;
/**
 * Milliseconds. The steps are the limit that counts; this ends what takes many steps of many microseconds, and leaves a
 * chat of a thousand messages its time on a busy machine.
 */
const maxTime = 5000;
/** Steps that are never timed, so that an ordinary prompt does not fail because the machine was busy or asleep. */
const untimedSteps = 2 ** 13;
/** Characters that `replace`, `join` and the like could make at most, estimated before they run. */
const maxProduct = 2 ** 25;
/** Bytes of a piece that `split` makes. */
const piece = 64;
/** What an iteration costs beyond its body: the library makes two scopes of each. */
const stepsAnIteration = 4;

/** Filters whose result can be much larger than what they read. Methods of strings are guarded where they are looked up. */
const growing: ReadonlySet<string> = new Set(["join", "indent", "tojson", "replace"]);

/** The fields of the library's nodes that are read here. */
interface Fields extends Statement {
  readonly value?: unknown;
  readonly body: Statement[];
  readonly argument?: Statement;
  readonly args: Fields[];
  readonly callee: Fields;
  readonly operand: Statement;
  readonly filter: Fields;
  readonly object: Statement;
  readonly lhs: Fields;
  readonly iterable: Fields;
  readonly assignee: Statement;
}

/** Stands for a node that has been evaluated. */
class Evaluated {
  readonly type = "Evaluated";
  readonly value: RuntimeValue;

  constructor(value: RuntimeValue) {
    this.value = value;
  }
}

type Method = (args: RuntimeValue[], scope: Environment) => RuntimeValue;

/** Runs a parsed template under limits on steps, depth, time and the size of every value. For one rendering. */
export class CappedInterpreter extends Interpreter {
  #steps = 0;
  #depth = 0;
  readonly #end = performance.now() + maxTime;
  readonly #guarded = new WeakSet<object>();

  override evaluate(node: Statement | undefined, scope: Environment): RuntimeValue {
    if (node instanceof Evaluated) return node.value;
    this.#charge(1);
    if (++this.#depth > maxDepth) throw new TemplateError(`it is nested more than ${maxDepth} levels deep`);
    try {
      const result = super.evaluate(node && this.#prepare(node as Fields, scope), scope);
      // Reading a long text may copy it, so its length costs. Lists are passed on as they are.
      this.#charge(weigh(result) >> (typeof result.value === "string" ? 8 : 14));
      return result;
    } finally {
      this.#depth--;
    }
  }

  #charge(steps: number): void {
    if ((this.#steps += steps) > maxSteps) throw new TemplateError(`it takes more than ${maxSteps} steps`);
    if (this.#steps > untimedSteps && performance.now() > this.#end)
      throw new TemplateError(`it takes longer than ${maxTime} ms`);
  }

  /** The node with those parts evaluated whose values decide what the rest will cost. */
  #prepare(node: Fields, scope: Environment): Statement {
    switch (node.type) {
      case "For":
        return { ...node, iterable: this.#iterable(node.iterable, scope) } as Statement;
      case "Set":
        return this.#assignment(node, scope);
      case "MemberExpression":
        return { ...node, object: this.#receiver(node.object, scope) } as Statement;
      case "FilterExpression":
        return this.#filter(this.evaluate(node.operand, scope), node.filter, scope);
      case "FilterStatement":
        return this.#filter(this.evaluate({ ...node, type: "Program" } as Statement, scope), node.filter, scope);
      default:
        return node;
    }
  }

  /** What a loop runs over, paid for in advance. */
  #iterable(iterable: Fields, scope: Environment): Statement {
    if (iterable.type === "SelectExpression")
      return { ...iterable, lhs: this.#iterable(iterable.lhs, scope) } as Statement;
    const value = this.evaluate(iterable, scope);
    const content: unknown = value.value;
    this.#charge(
      stepsAnIteration * (Array.isArray(content) ? content.length : content instanceof Map ? content.size : 0),
    );
    return new Evaluated(value);
  }

  /** A namespace inside a namespace could hold itself. */
  #assignment(node: Fields, scope: Environment): Statement {
    if (node.assignee.type !== "MemberExpression" || !node.value) return node;
    const value = this.evaluate(node.value as Statement, scope);
    if (value.type === "NamespaceValue") throw new TemplateError("a namespace cannot be put into another value");
    return { ...node, value: new Evaluated(value) } as Statement;
  }

  /** The value whose member is looked up; the `replace` and `split` of a text get their guards. */
  #receiver(node: Statement, scope: Environment): Statement {
    const value = this.evaluate(node, scope);
    if (value.type === "StringValue" && !this.#guarded.has(value)) {
      this.#guarded.add(value);
      for (const name of ["replace", "split"]) {
        const method = value.builtins.get(name) as { value: Method };
        const run = method.value;
        method.value = (args, inner) => {
          checkProduct(name, value, args);
          return run(args, inner);
        };
      }
    }
    return new Evaluated(value);
  }

  /** A filter with its operand evaluated, and for one that makes things grow its arguments too. */
  #filter(operand: RuntimeValue, filter: Fields, scope: Environment): Statement {
    const node = { type: "FilterExpression", operand: new Evaluated(operand) };
    const name = filter.type === "CallExpression" ? (filter.callee.value as string) : (filter.value as string);
    if (!growing.has(name) || filter.type !== "CallExpression") return { ...node, filter } as Statement;
    const values: RuntimeValue[] = [];
    const keep = (part: Statement): Statement => {
      const value = this.evaluate(part, scope);
      values.push(value);
      return new Evaluated(value);
    };
    const args = filter.args.map((arg) => {
      if (arg.type === "KeywordArgumentExpression") return { ...arg, value: keep(arg.value as Statement) };
      // What a list or mapping spreads into arguments would not be measured as such.
      if (arg.argument) throw new TemplateError(`${name} takes no * and ** here`);
      return keep(arg);
    });
    checkProduct(name, operand, values);
    return { ...node, filter: { ...filter, args } } as Statement;
  }
}

/** Refuses what could make more than {@link maxProduct} characters: each of the operand grown by all arguments. */
function checkProduct(name: string, operand: RuntimeValue, args: readonly RuntimeValue[]): void {
  const growth = args.reduce((sum, arg) => sum + (typeof arg.value === "number" ? Math.abs(arg.value) : weigh(arg)), 1);
  const most = name === "split" ? weigh(operand) * piece : weigh(operand) * growth;
  if (!(most <= maxProduct)) throw new TemplateError(`${name} could make more than ${maxProduct} characters`);
}
