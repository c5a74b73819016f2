/** Every case of every op of @rot/kernels, and attention in the sizes that engines are compared by. */
import { type AnyCases, kernelCases } from "@rot/kernels/cases";
import { untaped } from "@rot/tensor";
import { Random } from "@rot/tensor/cases";
import { type Benchmark, checkOf } from "../benchmark.ts";
import { opCandidates } from "./op-candidates.ts";
import { draw } from "./ops.ts";

/** The heads of Qwen3-VL-2B. */
const [H, G, K] = [16, 8, 128];

const attentionOf = (L: number, knobs: boolean): Benchmark => ({
  name: `attention ${L}`,
  // Half of the scores are hidden.
  flops: 2 * L * L * H * K,
  bytes: 4 * L * (2 * H + 2 * G) * K,
  work: { name: "attention", sizes: { length: L, heads: H, groups: G, width: K } },
  target: 2.5,
  prepare(device) {
    const { op } = (kernelCases["attention"] as [AnyCases])[0];
    const inputs = [draw(device, [1, L, H, K], 1), draw(device, [1, L, G, K], 2), draw(device, [1, L, G, K], 3)];
    const params = { scale: K ** -0.5, causal: true, rules: [] };
    const check = checkOf(() => untaped(() => op(...inputs, params)));
    return opCandidates(device, op, inputs, params, knobs).map((candidate) => ({
      ...candidate,
      ...(candidate.name === "forward" && { check }),
      // The scores once more, and four products of their size.
      ...(candidate.name.startsWith("forward + backward") && { flops: 7 * L * L * H * K }),
    }));
  },
});

export const attentionBenchmarks = (knobs: boolean): readonly Benchmark[] =>
  [256, 1024].map((L) => attentionOf(L, knobs));

/** The cases: the largest of each op, and the others when they are asked for by name. */
export function caseBenchmarks(knobs: boolean): readonly Benchmark[] {
  return Object.entries(kernelCases).flatMap(([folder, lists]) =>
    lists.flatMap(({ op, cases }): Benchmark[] => {
      const largest = Math.max(...cases.map(({ flops, bytes }) => flops + bytes));
      return cases
        .filter(({ flops, bytes }) => flops + bytes > 0)
        .map(({ name, flops, bytes, inputs, params }) => ({
          name: `${folder}: ${name}`,
          bytes,
          onlyByName: flops + bytes < largest,
          ...(flops > 0 && { flops }),
          prepare: (device) =>
            opCandidates(device, op, inputs(new Random(device)), params, knobs).map((candidate) => ({
              ...candidate,
              // What the backward pass costs is not in the cases.
              ...(candidate.name.startsWith("forward + backward") && { flops: 0, bytes: 0 }),
            })),
        }));
    }),
  );
}
