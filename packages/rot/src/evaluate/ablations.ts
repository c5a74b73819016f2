/** Latents that are not the model's own: what is left of its accuracy says whether they do any work. */
import { concat, flip, key, randn, type Seed, type Tensor, zeros } from "@rot/tensor";
import { permutation } from "../train/order.ts";

/** What an ablation is given of one sample. */
interface Given {
  /** [T, D], the sample's own latents. */
  readonly own: Tensor;
  /** [T', D], those of the next question of the data. */
  readonly other: () => Tensor;
  /** [T″, D], the mean over all questions at each step. */
  readonly mean: () => Tensor;
  /** A random key of the sample. */
  readonly seed: Seed;
}

const first = (own: Tensor, count: number): Tensor => own.slice([0, count]);

/** What stands in place of the latents [T, D], by arm. */
const table = {
  zeros: ({ own }: Given) => zeros(own.device, own.shape),
  /** Random directions, each as long as the latent whose place it takes. */
  noise({ own, seed }: Given) {
    const drawn = randn(own.device, own.shape, { seed: key(seed).for("noise") });
    const length = (x: Tensor): Tensor => x.square().sum(-1, { keepDim: true }).sqrt();
    return drawn.mul(length(own).div(length(drawn).maximum(1e-30)));
  },
  /** Another order, in which the last latent is another one, for it alone may hold the answer. */
  shuffled({ own, seed }: Given) {
    const count = own.shape[0] as number;
    if (count < 2) return own;
    const order = [...permutation(count, key(seed).for("shuffled"))];
    if (order.at(-1) === count - 1) order.unshift(order.pop() as number);
    return concat(order.map((row) => own.slice([row, row + 1])));
  },
  reversed: ({ own }: Given) => flip(own, 0),
  /** The first latent at every step. */
  repeated: ({ own }: Given) => ((own.shape[0] as number) > 0 ? first(own, 1).expand(...own.shape) : own),
  other: ({ other }: Given) => other(),
  mean: ({ own, mean }: Given) => first(mean(), Math.min(own.shape[0] as number, mean().shape[0] as number)),
  none: ({ own }: Given) => first(own, 0),
} as const satisfies Record<string, (given: Given) => Tensor>;

/** The names of the ablations. */
export type Ablation = keyof typeof table;
export const ablations = Object.keys(table) as readonly Ablation[];

/** What an evaluation runs: the model as it is, or with other latents. */
export type Arm = "own" | Ablation;
export const arms: readonly Arm[] = ["own", ...ablations];

/**
 * The latents [T, D] of an ablation.
 *
 * @param given  `other` and `mean` are only called by the ablations that need them
 * @returns      a handle of its own, also where it is what was given
 */
export const ablate = (name: Ablation, given: Given): Tensor => table[name](given).alias();
