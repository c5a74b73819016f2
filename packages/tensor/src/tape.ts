/** The tape. Recording lives here; walking it lives in `grad.ts`, which may use ops. */
import { isFloat } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { print } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * How cotangents flow back through one recorded op.
 *
 * @param saved  what {@link record} was asked to save, as it was then
 * @param dy     the cotangent of each output, null where none arrived
 * @returns      the cotangent of each input, null where none flows
 */
export type Backward = (saved: readonly Tensor[], dy: readonly (Tensor | null)[]) => readonly (Tensor | null)[];

/** Where an input came from. */
export interface Edge {
  readonly node: Node;
  /** Which of the node's outputs it is. */
  readonly output: number;
}

let recorded = 0;

/** The id of the newest node. */
export const newestNode = (): number => recorded;

/** One op on the tape, or a leaf. Counted by the tensors it made and by the nodes that follow it. */
export class Node {
  readonly name: string;
  /** Higher than the ids of everything it came from. */
  readonly id = ++recorded;
  readonly inputs: readonly (Edge | null)[];
  readonly backward: Backward | null;
  /** Whether it replays a function on its way back, which may lead to nodes that are not among its inputs. */
  readonly replays: boolean;
  /** Of a leaf: what `backward` has gathered. */
  grad: Tensor | null = null;
  #saved: readonly Tensor[] | null;
  #versions: readonly number[];
  #holders = 0;

  constructor(
    name: string,
    inputs: readonly (Edge | null)[],
    saved: readonly Tensor[],
    backward: Backward | null,
    replays: boolean,
  ) {
    this.name = name;
    this.inputs = inputs;
    this.backward = backward;
    this.replays = replays;
    this.#saved = saved;
    this.#versions = saved.map((t) => (t.isDisposed ? 0 : t.storage.version));
    for (const input of inputs) input?.node.retain();
  }

  get isLeaf(): boolean {
    return this.backward === null;
  }

  /**
   * The saved tensors, if they are as they were.
   *
   * @throws {UsageError} after they were freed by an earlier backward, or changed in place
   */
  get saved(): readonly Tensor[] {
    if (!this.#saved) {
      throw new UsageError(
        `backward: what ${this.name} saved was freed by an earlier backward; call that one with { retain: true }`,
      );
    }
    for (const [i, tensor] of this.#saved.entries()) {
      if (!tensor.isDisposed && tensor.storage.version !== this.#versions[i]) {
        throw new UsageError(`backward: a tensor that ${this.name} saved was changed in place after the forward pass`);
      }
    }
    return this.#saved;
  }

  retain(): void {
    this.#holders++;
  }

  /** Lets go of the node; without holders it frees what it saved, and so on towards the leaves, without recursion. */
  release(): void {
    const pending: Node[] = [this];
    for (let node = pending.pop(); node; node = pending.pop()) {
      if (--node.#holders > 0) continue;
      node.free();
      for (const input of node.inputs) if (input) pending.push(input.node);
    }
  }

  /** Frees what was saved. */
  free(): void {
    for (const tensor of this.#saved ?? []) tensor.dispose();
    if (this.isLeaf) this.grad?.dispose();
    else this.#saved = null;
  }
}

let on = true;

/**
 * Runs `f` without recording.
 *
 * @throws {UsageError} when `f` is asynchronous: what it does after its first wait would be recorded
 */
export function untaped<T>(f: () => T): T {
  const result = taping(false, f);
  if (!(result instanceof Promise)) return result;
  result.catch(() => {});
  throw new UsageError("untaped: its function is asynchronous; do the waiting outside");
}

/** Runs `f` with recording on or off. */
export function taping<T>(record: boolean, f: () => T): T {
  const was = on;
  on = record;
  try {
    return f();
  } finally {
    on = was;
  }
}

/** Whether ops are being recorded. */
export const isTaping = (): boolean => on;

/**
 * Makes a tensor a leaf: gradients flow to it and end there.
 *
 * @returns  the same tensor
 * @throws {ShapeError} when it holds no floats
 */
export function requireGrad<T extends Tensor>(tensor: T): T {
  if (!isFloat(tensor.dtype)) {
    throw new ShapeError(`requireGrad: ${print(tensor.shape)} is ${tensor.dtype}; only floats have gradients`);
  }
  if (!tensor.node) tensor.attach(new Node("leaf", [], [], null, false));
  return tensor;
}

/** What one op puts on the tape. */
export interface Recording {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** Tensors that `backward` reads. They are aliased: the caller may dispose its own. */
  readonly save: readonly Tensor[];
  readonly backward: Backward;
  /** See {@link Node.replays}: recorded even when no input needs a gradient. */
  readonly replays?: boolean;
}

/** Records an op if anything it came from needs a gradient. */
export function record({ name, inputs, outputs, save, backward, replays = false }: Recording): void {
  if (!on) return;
  const edges = inputs.map(({ node, output }) => node && { node, output });
  if (!replays && edges.every((edge) => edge === null)) return;
  const saved = save.map((tensor) => {
    if (tensor.isDisposed) return tensor;
    const alias = tensor.alias();
    alias.owner = null; // the node frees it, no scope does
    alias.storage.buffer.saved = true;
    return alias;
  });
  const node = new Node(name, edges, saved, backward, replays);
  for (const [i, output] of outputs.entries()) output.attach(node, i);
}
