/** Walking the tape backwards: gradients, their accumulation, and recomputation. */
import { isFloat } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { copy } from "./ops/assign.ts";
import { full } from "./ops/create.ts";
import { add } from "./ops/binary.ts";
import { keep, scope } from "./scope.ts";
import { print, sameShape } from "./shape.ts";
import { type Edge, isTaping, newestNode, type Node, record, requireGrad, taping, untaped } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/** What {@link grad} and {@link backward} take besides the tensors. */
export interface BackwardOptions {
  /** The cotangent of the result; without it the result must be one number, whose cotangent is 1. */
  readonly cotangent?: Tensor;
  /** Keeps what the tape saved, for another sweep. Otherwise it is freed as soon as it was used. */
  readonly retain?: boolean;
}

/**
 * Gradients of a result with respect to some of the tensors it came from.
 *
 * @param of    a scalar, or any tensor with `cotangent` given
 * @param wrt   leaves ({@link requireGrad}) or tensors in between
 * @returns     one gradient for each of `wrt`, in its shape
 * @throws {UsageError} when no path leads from `of` back to one of `wrt`, or what it needs was freed or changed
 * @throws {ShapeError} when the cotangent has another shape than `of`, or holds no floats
 */
export function grad(of: Tensor, wrt: readonly Tensor[], options?: BackwardOptions): Tensor[];
/** The same, with null for each of `wrt` that the result did not come from. */
export function grad(
  of: Tensor,
  wrt: readonly Tensor[],
  options: BackwardOptions & { readonly allowUnused: true },
): (Tensor | null)[];
export function grad(
  of: Tensor,
  wrt: readonly Tensor[],
  options: BackwardOptions & { readonly allowUnused?: boolean } = {},
): (Tensor | null)[] {
  const wanted = wrt.map((tensor, i) => {
    if (!tensor.node) throw new UsageError(`grad: wrt[${i}] ${print(tensor.shape)} requires no gradient`);
    return { node: tensor.node, output: tensor.output };
  });
  const targets = new Set(wanted.map(({ node }) => node));
  return scope(() => {
    const found = new Map<Node, (Tensor | null)[]>();
    sweep(of, options, targets, (node, cotangents) => {
      if (targets.has(node))
        found.set(
          node,
          cotangents.map((dy) => dy && ownMemory(dy)),
        );
    });
    return wanted.map(({ node, output }, i) => {
      const gradient = found.get(node)?.[output];
      if (gradient) return gradient.alias();
      if (options.allowUnused) return null;
      throw new UsageError(`grad: no path leads from the result to wrt[${i}] ${print(wrt[i]?.shape ?? [])}`);
    });
  });
}

/**
 * Adds the gradient of a result to `.grad` of every leaf it came from.
 *
 * @throws {UsageError} when nothing it came from requires a gradient, or what it needs was freed or changed
 * @throws {ShapeError} when the cotangent has another shape than `of`, or holds no floats
 */
export function backward(of: Tensor, options: BackwardOptions = {}): void {
  scope(() =>
    sweep(of, options, null, (node, [dy]) => {
      if (!node.isLeaf || !dy) return;
      const before = node.grad;
      node.grad = keep(before ? add(before, dy) : ownMemory(dy));
      before?.dispose();
    }),
  );
}

/** Both operands of a sum get the same cotangent, but no two gradients share memory: whoever clips one must not clip both. */
const ownMemory = (dy: Tensor): Tensor => (dy.storage.isShared ? copy(dy) : dy.alias());

/** Called once for every node of a sweep, with the cotangents of its outputs, before they flow on. */
type Visit = (node: Node, cotangents: readonly (Tensor | null)[]) => void;

function sweep(
  of: Tensor,
  { cotangent, retain = false }: BackwardOptions,
  targets: ReadonlySet<Node> | null,
  visit: Visit,
): void {
  if (!of.node) throw new UsageError(`backward: ${print(of.shape)} came from nothing that requires a gradient`);
  if (cotangent && !(isFloat(cotangent.dtype) && sameShape(cotangent.shape, of.shape))) {
    const given = `${print(cotangent.shape)} ${cotangent.dtype}`;
    throw new ShapeError(`backward: the cotangent is ${given}, the result ${print(of.shape)} ${of.dtype}`);
  }
  if (!cotangent && of.size !== 1) {
    throw new UsageError(`backward: the result ${print(of.shape)} is not one number; pass its cotangent`);
  }
  const seed = cotangent?.alias() ?? full(of.device, of.shape, 1, of.dtype);
  new Sweep(targets, visit, retain, null).run(of.node, of.output, seed);
}

/** One walk over the tape, newest node first: each comes after everything that was made from it. */
class Sweep {
  /** The sweep that runs now: a replayed function sends the cotangents of what it captured there. */
  static running: Sweep | null = null;

  readonly #targets: ReadonlySet<Node> | null;
  readonly #visit: Visit;
  readonly #retain: boolean;
  /** The sweep that this one is a part of, and the id up to which nodes belong to it. */
  readonly #outer: { readonly sweep: Sweep; readonly border: number } | null;
  readonly #waiting = new Map<Node, (Tensor | null)[]>();
  /** The nodes of {@link #waiting}, oldest first. */
  readonly #frontier: Node[] = [];
  readonly #leads = new Map<Node, boolean>();

  constructor(
    targets: ReadonlySet<Node> | null,
    visit: Visit,
    retain: boolean,
    outer: { sweep: Sweep; border: number } | null,
  ) {
    this.#targets = targets;
    this.#visit = visit;
    this.#retain = retain;
    this.#outer = outer;
  }

  run(root: Node, output: number, seed: Tensor): void {
    const { running } = Sweep;
    Sweep.running = this;
    try {
      this.#deposit({ node: root, output }, seed);
      untaped(() => {
        for (let node = this.#frontier.pop(); node; node = this.#frontier.pop()) this.#step(node);
      });
    } finally {
      Sweep.running = running;
      for (const cotangents of this.#waiting.values()) for (const dy of cotangents) dy?.dispose();
    }
  }

  #step(node: Node): void {
    const cotangents = this.#waiting.get(node) as (Tensor | null)[];
    this.#visit(node, cotangents);
    if (node.backward) {
      const { saved, backward: flow } = node;
      scope(() => {
        for (const [i, dx] of flow(saved, cotangents).entries()) {
          const edge = node.inputs[i];
          if (dx && edge) this.#deposit(edge, dx);
        }
      });
      if (!this.#retain) node.free();
    }
    this.#waiting.delete(node);
    for (const dy of cotangents) dy?.dispose();
  }

  /** Adds a cotangent to those that wait for their node. */
  #deposit({ node, output }: Edge, dx: Tensor): void {
    if (this.#outer && node.id <= this.#outer.border) return this.#outer.sweep.#deposit({ node, output }, dx);
    if (!this.#isUseful(node)) return;
    let list = this.#waiting.get(node);
    if (!list) {
      this.#waiting.set(node, (list = []));
      let at = this.#frontier.length;
      while (at > 0 && (this.#frontier[at - 1] as Node).id > node.id) at--;
      this.#frontier.splice(at, 0, node);
    }
    const before = list[output];
    const sum = before ? add(before, dx) : dx.alias();
    sum.owner = null; // the sweep frees it, no scope does
    list[output] = sum;
    before?.dispose();
  }

  /** Whether a path leads from the node to a target. */
  #isUseful(node: Node): boolean {
    if (!this.#targets) return true;
    const stack = [node];
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const next = top.inputs.find((edge) => edge && !this.#leads.has(edge.node));
      if (next && !this.#leads.has(top)) {
        stack.push(next.node);
        continue;
      }
      const leads =
        this.#targets.has(top) || top.replays || top.inputs.some((edge) => edge && this.#leads.get(edge.node));
      this.#leads.set(top, leads);
      stack.pop();
    }
    return this.#leads.get(node) as boolean;
  }

  /** Runs `f` again, taped, and sweeps over it up to what it captured, which this sweep goes on with. */
  replay(
    f: (inputs: readonly Tensor[]) => Tensor,
    saved: readonly Tensor[],
    needs: readonly boolean[],
    dy: Tensor,
  ): (Tensor | null)[] {
    const border = newestNode();
    const inputs = saved.map((tensor, i) => (needs[i] ? requireGrad(tensor.alias()) : tensor));
    const at = new Map(inputs.flatMap(({ node }, i) => (node ? [[node, i] as const] : [])));
    const dx: (Tensor | null)[] = inputs.map(() => null);
    const visit: Visit = (node, [cotangent]) => {
      const i = at.get(node);
      if (i !== undefined && cotangent) dx[i] = cotangent.alias();
    };
    const inner = new Sweep(this.#targets && new Set([...this.#targets, ...at.keys()]), visit, false, {
      sweep: this,
      border,
    });
    const y = taping(true, () => f(inputs));
    if (y.node) inner.run(y.node, y.output, dy);
    return dx;
  }
}

/**
 * Runs `f` without keeping what its gradient needs, and runs it again on the way back: memory for time.
 *
 * @param f       a function of tensors that gives one tensor, the same each time it is run
 * @param inputs  what it is run on; tensors it captures get their gradients too
 * @see Chen et al. 2016, https://arxiv.org/abs/1604.06174
 */
export function checkpoint<I extends readonly Tensor[]>(f: (...inputs: I) => Tensor, ...inputs: I): Tensor {
  const y = scope(() => untaped(() => f(...inputs).alias()));
  if (!isTaping()) return y;
  const needs = inputs.map((input) => input.requiresGrad);
  record({
    name: "checkpoint",
    inputs,
    outputs: [y],
    save: inputs,
    replays: true,
    backward: (saved, [dy]) =>
      (Sweep.running as Sweep).replay((again) => f(...(again as unknown as I)), saved, needs, dy as Tensor),
  });
  return y;
}
