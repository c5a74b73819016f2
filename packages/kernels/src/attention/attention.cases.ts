import { type DType, tensor, type Tensor } from "@rot/tensor";
import { defineCases, type Random } from "@rot/tensor/cases";
import { halfEpsilon } from "../shared/cases.ts";
import { attentionOp } from "./attention.ts";
import type { AttentionRule } from "./options.ts";

interface Problem {
  readonly name: string;
  readonly B?: number;
  readonly Lq: number;
  readonly Lk?: number;
  readonly H: number;
  readonly G?: number;
  readonly K: number;
  readonly W?: number;
  readonly causal?: boolean;
  readonly rules?: readonly AttentionRule[];
  /** [begin, end) for each query, from its sequence and its number. */
  readonly sees?: (b: number, query: number) => readonly [number, number];
  readonly dtype?: DType;
  readonly scale?: number;
}

/** Every shape that some model here has, and every option alone and with others. */
const problems: readonly Problem[] = [
  { name: "one of everything", Lq: 1, H: 1, K: 4 },
  { name: "two widths", B: 2, Lq: 5, Lk: 7, H: 3, K: 8, W: 20 },
  { name: "causal, a tiny model", B: 2, Lq: 33, H: 4, G: 2, K: 16, causal: true },
  { name: "causal, Qwen3's heads", Lq: 40, H: 4, G: 2, K: 128, causal: true },
  { name: "more keys than queries", Lq: 9, Lk: 70, H: 6, G: 2, K: 20, causal: true },
  { name: "more queries than keys", Lq: 20, Lk: 11, H: 2, K: 12, causal: true },
  { name: "patches in segments", Lq: 37, H: 2, K: 72, sees: (_, i) => (i < 17 ? [0, 17] : [17, 37]) },
  { name: "lengths", B: 3, Lq: 18, H: 2, K: 8, causal: true, sees: (b) => [2 * b, 18 - 5 * b] },
  { name: "a cached step", B: 2, Lq: 1, Lk: 600, H: 8, G: 2, K: 64, sees: (b) => [b, 577 - 50 * b] },
  {
    name: "a cached step of a few, bf16",
    B: 2,
    Lq: 3,
    Lk: 41,
    H: 4,
    G: 1,
    K: 32,
    sees: (b, i) => [0, 30 + b + i],
    dtype: "bf16",
  },
  { name: "f16", Lq: 17, H: 2, G: 1, K: 12, causal: true, dtype: "f16", scale: 0.5 },
  {
    name: "rules",
    B: 2,
    Lq: 24,
    H: 4,
    G: 2,
    K: 16,
    causal: true,
    rules: [
      { queries: [10, 24], keys: [2, 9], bias: -Infinity },
      { queries: [0, 12], keys: [0, 5], bias: Math.log(0.3) },
      { queries: [5, 24], keys: [4, 6], bias: -Infinity, sequence: 1 },
      { queries: [3, 20], keys: [1, 30], bias: 1.5, sequence: 0 },
    ],
  },
];

const one = ({
  name,
  B = 1,
  Lq,
  Lk = Lq,
  H,
  G = H,
  K,
  W = K,
  causal = false,
  rules = [],
  sees,
  dtype = "f32",
  scale = K ** -0.5,
}: Problem) => ({
  name: `${name}: [${B}, ${Lq}, ${H}, ${K}] on ${Lk} of ${G}`,
  inputs(random: Random): [Tensor, Tensor, Tensor, ...Tensor[]] {
    const three = [
      random.normal([B, Lq, H, K], 2),
      random.normal([B, Lk, G, K], 2, dtype),
      random.normal([B, Lk, G, W], 1, dtype),
    ] as const;
    if (!sees) return [...three];
    const ranges = Array.from({ length: B * Lq }, (_, n) => sees(Math.floor(n / Lq), n % Lq)).flat();
    return [...three, tensor(random.device, Int32Array.from(ranges), { shape: [B, Lq, 2], dtype: "i32" })];
  },
  params: { scale, causal, rules },
  tolerance: { forward: 1e-5, vjp: 1e-4 + 2 * halfEpsilon(dtype) },
  flops: 2 * B * Lq * Lk * H * (K + W) * (causal ? 0.5 : 1),
  bytes: 4 * B * (Lq * H * (K + W) + Lk * G * (K + W)),
});

export const cases = defineCases(attentionOp, problems.map(one));
