/** What we use of `@huggingface/jinja`: its own declarations import each other without extensions, which Node's rules do not find. */
declare module "@huggingface/jinja" {
  /** A value while a template runs. `type` names its class. */
  export interface RuntimeValue {
    readonly type: string;
    readonly value: unknown;
    /** Members that the type brings along; functions have type "FunctionValue". */
    readonly builtins: ReadonlyMap<string, RuntimeValue>;
  }

  /** A node of a parsed template. */
  export interface Statement {
    readonly type: string;
  }

  export interface Program extends Statement {
    readonly body: Statement[];
  }

  export class Environment {
    /** Declares a variable, once; the JavaScript value is converted. */
    set(name: string, value: unknown): RuntimeValue;
  }

  export class Interpreter {
    constructor(scope: Environment);
    run(program: Program): RuntimeValue;
    /** Evaluates a node; every part of one is evaluated through this method. */
    evaluate(node: Statement | undefined, scope: Environment): RuntimeValue;
  }

  export interface Token {
    readonly type: string;
    readonly value: string;
  }

  export function tokenize(source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }): Token[];
  export function parse(tokens: Token[]): Program;
}
