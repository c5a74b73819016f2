/** Low-rank adapters on the linears of a model: y = x·Wᵀ + scaling · dropout(x)·Aᵀ·Bᵀ. Names are PEFT's. */
import {
  assign,
  cast,
  type Device,
  dropout,
  init,
  keep,
  key,
  linear,
  matmul,
  type RandomKey,
  scope,
  type Seed,
  type Shape,
  type Tensor,
  untaped,
  UsageError,
  zeros,
} from "@rot/tensor";
import { type Architecture, checkKeys } from "../weights/architecture.ts";
import type { Weights } from "../weights/weights.ts";
import type { LoraConfig } from "./config.ts";
import { isTarget, patternValue } from "./targets.ts";

/** The adapter of one linear. */
interface Layer {
  /** [r, inputs] */
  readonly A: Tensor;
  /** [outputs, r] */
  readonly B: Tensor;
  readonly scaling: number;
}

/** Where the masks of dropout come from. */
interface Masks {
  readonly key: RandomKey;
  readonly samples: Tensor | undefined;
}

/** What PEFT puts before the names of the base model's modules. */
const PREFIX = "base_model.model.";
const names = (path: string): { A: string; B: string } => ({
  A: `${PREFIX}${path}.lora_A.weight`,
  B: `${PREFIX}${path}.lora_B.weight`,
});

/** The adapters of a model. Made by {@link createLora} and {@link loraFrom}; a model gets them through {@link withLora}. */
export class Lora {
  readonly config: LoraConfig;
  /** `base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight` and so on, f32. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly #layers: ReadonlyMap<string, Layer>;
  #masks: Masks | null = null;
  #merged = false;

  constructor(config: LoraConfig, layers: ReadonlyMap<string, Layer>) {
    this.config = config;
    this.#layers = layers;
    this.parameters = new Map(
      [...layers].flatMap(([path, { A, B }]) => [[names(path).A, A] as const, [names(path).B, B] as const]),
    );
  }

  /** Whether the adapters are part of the base model's weights. */
  get isMerged(): boolean {
    return this.#merged;
  }

  /**
   * Says which elements dropout takes from now on. Without a key nothing is dropped, as in evaluation.
   *
   * @param step     a new key each step: `key(seed).for("lora", step)`; each linear makes its own of it by its path
   * @param samples  [B], the number of each sample of the batch, so that its mask does not depend on the batch
   */
  setDropout(step: RandomKey | null, samples?: Tensor): void {
    this.#masks = step && { key: step, samples };
  }

  /** What is added to the linear at a path, or null. */
  adapter(path: string): ((x: Tensor) => Tensor) | null {
    const layer = this.#layers.get(path);
    if (!layer || this.#merged) return null;
    return (x) => {
      if (this.#merged) {
        throw new UsageError(
          `LoRA: ${path} has its adapter merged; build the model again from the same view, or unmerge`,
        );
      }
      return scope(() => {
        const wide = cast(x, layer.A.dtype);
        const { dropout: p = 0 } = this.config;
        const seen = this.#masks ? dropout(wide, p, this.#masks.key.for(path), this.#masks.samples) : wide;
        return cast(linear(linear(seen, layer.A).mul(layer.scaling), layer.B), x.dtype);
      });
    };
  }

  /**
   * Adds scaling · B·A to the weights, in f32 and rounded to their dtype. Models built from the view from now on have no
   * adapters any more, and those built before refuse to run.
   *
   * @throws {UsageError} when they are merged already
   * @throws {WeightsError} when a weight is missing or of another shape
   */
  merge(weights: Weights): void {
    if (this.#merged) throw new UsageError("LoRA: the adapters are merged already");
    this.#add(weights, 1);
    this.#merged = true;
  }

  /**
   * Takes {@link merge} back, up to rounding: a 16-bit weight may end in a neighbour of what it was.
   *
   * @throws {UsageError} when they are not merged
   */
  unmerge(weights: Weights): void {
    if (!this.#merged) throw new UsageError("LoRA: the adapters are not merged");
    this.#add(weights, -1);
    this.#merged = false;
  }

  #add(weights: Weights, sign: 1 | -1): void {
    const merging = [...this.#layers].map(([path, layer]) => {
      const shape: Shape = [layer.B.shape[0] as number, layer.A.shape[1] as number];
      return { weight: weights.at(path).get("weight", shape), layer };
    });
    for (const { weight, layer } of merging) {
      scope(() =>
        untaped(() => assign(weight, cast(weight, "f32").add(matmul(layer.B, layer.A).mul(sign * layer.scaling)))),
      );
    }
  }

  /** Frees the adapters. */
  dispose(): void {
    for (const parameter of this.parameters.values()) parameter.dispose();
  }
}

/**
 * Fresh adapters on the linears that a configuration targets: A uniform in ±1/√inputs as PEFT's (Kaiming with a = √5),
 * B zero, so that the model is at first what it was. They are plain tensors: the trainer makes them leaves.
 *
 * @param linears  of {@link Architecture}
 * @param seed     each A is a function of it and of its name
 * @throws {UsageError} when no linear is targeted, or a name targets none
 */
export function createLora(
  config: LoraConfig,
  linears: Architecture["linears"],
  device: Device,
  { seed }: { readonly seed: Seed },
): Lora {
  refuseIdleNames(config, linears);
  // One scope, so that none stays when there is no room for all.
  const layers = scope(() =>
    targeted(config, linears).map((path): [string, Layer] => {
      const [outputs, inputs] = linears.get(path) as readonly [number, number];
      const { r, scaling } = rankOf(config, path);
      const A = init.kaimingUniform(device, [r, inputs], { a: Math.sqrt(5), seed: key(seed).for(names(path).A) });
      return [path, { A, B: zeros(device, [outputs, r]), scaling }];
    }),
  );
  return new Lora(config, new Map(keep(layers)));
}

/**
 * Adapters with given values.
 *
 * @param tensors  by PEFT's names; they become the adapters' own
 * @param where    what messages call the file they are from
 * @throws {WeightsError} one that lists every missing, unexpected and mis-shaped tensor
 * @throws {UsageError} when no linear is targeted
 */
export function loraFrom(
  config: LoraConfig,
  linears: Architecture["linears"],
  tensors: ReadonlyMap<string, Tensor>,
  where: string,
): Lora {
  const shapes = new Map([...tensors].map(([name, { shape }]) => [name, shape]));
  checkKeys({ parameters: loraParameters(config, linears), linears }, shapes, where);
  const layers = targeted(config, linears).map((path): [string, Layer] => {
    const [A, B] = [tensors.get(names(path).A) as Tensor, tensors.get(names(path).B) as Tensor];
    return [path, { A, B, scaling: rankOf(config, path).scaling }];
  });
  return new Lora(config, new Map(layers));
}

/**
 * Names and shapes of the parameters that the adapters of a configuration have.
 *
 * @throws {UsageError} when no linear is targeted
 */
export function loraParameters(config: LoraConfig, linears: Architecture["linears"]): Map<string, Shape> {
  const shapes = new Map<string, Shape>();
  for (const path of targeted(config, linears)) {
    const [outputs, inputs] = linears.get(path) as readonly [number, number];
    const { r } = rankOf(config, path);
    shapes.set(names(path).A, [r, inputs]).set(names(path).B, [outputs, r]);
  }
  return shapes;
}

function targeted({ targetModules, excludeModules }: LoraConfig, linears: Architecture["linears"]): string[] {
  const paths = [...linears.keys()].filter(
    (path) => isTarget(path, targetModules) && !(excludeModules && isTarget(path, excludeModules)),
  );
  if (paths.length === 0) {
    throw new UsageError(`LoRA: target_modules match no linear of the model: ${lastParts(linears)}`);
  }
  return paths;
}

/** PEFT lets a name pass that matches nothing while another does; who makes new adapters has misspelt it. */
function refuseIdleNames({ targetModules }: LoraConfig, linears: Architecture["linears"]): void {
  if (typeof targetModules === "string") return;
  const paths = [...linears.keys()];
  const idle = targetModules.filter((name) => !paths.some((path) => isTarget(path, [name])));
  if (idle.length > 0) {
    throw new UsageError(
      `LoRA: ${idle.join(", ")} of target_modules match no linear of the model: ${lastParts(linears)}`,
    );
  }
}

const lastParts = (linears: Architecture["linears"]): string =>
  [...new Set([...linears.keys()].map((path) => path.slice(path.lastIndexOf(".") + 1)))].join(", ");

function rankOf(config: LoraConfig, path: string): { r: number; scaling: number } {
  const r = patternValue(config.rankPattern ?? new Map(), path) ?? config.r;
  const alpha = patternValue(config.alphaPattern ?? new Map(), path) ?? config.alpha;
  return { r, scaling: config.rslora ? alpha / Math.sqrt(r) : alpha / r };
}

/** The view of a model's weights with adapters on its linears. */
export function withLora(weights: Weights, lora: Lora): Weights {
  return {
    path: weights.path,
    get device() {
      return weights.device;
    },
    at: (name) => withLora(weights.at(name), lora),
    has: (name) => weights.has(name),
    get: (name, shape) => weights.get(name, shape),
    get adapter() {
      const [own, below] = [lora.adapter(weights.path), weights.adapter];
      return own && below ? (x: Tensor) => own(x).add(below(x)) : (own ?? below);
    },
  };
}
