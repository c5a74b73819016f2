/** `npm run bench:rot`: a training step of both stages, ours beside the published way, in one run of alternating rounds. */
import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { buildModel, createLora, describeModel, type Pretrained, randomModel, weightsOf } from "@rot/models";
import { assign, type Device, key, openDevice, randn, requireGrad, type Tensor } from "@rot/tensor";
import { Command } from "commander";
import { createHead, projectionHead } from "../../packages/rot/src/methods/rot/head.ts";
import { rotStep, type TrainingSample } from "../../packages/rot/src/methods/rot/step.ts";
import { sequentialStep } from "./sequential-rot.ts";

interface Options {
  readonly adapter?: string;
  readonly batch: string;
  readonly latents: string;
  readonly rounds: string;
}

await new Command("bench:rot")
  .description("time a training step of both stages beside the published, sequential way")
  .option("--adapter <name>", "part of an adapter's name, or hardware, software, embedded (also ROT_ADAPTER)")
  .option("--batch <n>", "samples", "8")
  .option("--latents <n>", "latents of the longest chain", "32")
  .option("--rounds <n>", "rounds, of which the median counts", "3")
  .action(run)
  .parseAsync();

async function run(options: Options): Promise<void> {
  const device = await openDevice({ adapter: options.adapter });
  const [batch, latents, rounds] = [options.batch, options.latents, options.rounds].map(Number) as [
    number,
    number,
    number,
  ];
  console.log(
    `${device.name}; batch ${batch}, up to ${latents} latents, median of ${rounds}, load ${loadavg()[0]?.toFixed(1)}`,
  );
  for (const stage of [1, 2] as const) {
    const { ours, theirs } = await open(device, stage, batch, latents);
    const times = { ours: [] as number[], theirs: [] as number[] };
    const difference = await compare(ours(), await theirs());
    for (let round = 0; round < rounds; round++) {
      for (const [name, step] of Object.entries({ ours, theirs }) as [
        "ours" | "theirs",
        () => Result | Promise<Result>,
      ][]) {
        const from = performance.now();
        const { loss, gradients } = await step();
        await loss.read();
        for (const tensor of [loss, ...gradients]) tensor?.dispose();
        await device.sync();
        times[name].push(performance.now() - from);
      }
    }
    const [a, b] = [median(times.ours), median(times.theirs)];
    console.log(
      `stage ${stage}: ours ${a.toFixed(0)} ms, sequential ${b.toFixed(0)} ms, ratio ${(b / a).toFixed(1)}; largest difference of a gradient ${difference.toExponential(1)} of its largest value`,
    );
  }
  device.destroy();
}

interface Result {
  readonly loss: Tensor;
  readonly gradients: readonly (Tensor | null)[];
}

/** Both ways of one stage, on the same model, head and samples. */
async function open(device: Device, stage: 1 | 2, batch: number, latents: number) {
  const file = fileURLToPath(new URL("../../packages/models/test/golden/qwen3vl_tiny/config.json", import.meta.url));
  const json = JSON.parse(readFileSync(file, "utf8")) as unknown;
  const description = describeModel(json);
  let pretrained: Pretrained = randomModel(json, device, { seed: 1, dtype: "f32" });
  const width = pretrained.model.width;
  const config = { width, hidden: 2 * width, activation: "swiglu" } as const;
  const headParameters = createHead(config, device, 2);
  let parameters = [...headParameters.values()];
  if (stage === 2) {
    const targetModules = ["q_proj", "k_proj", "v_proj", "o_proj"];
    const lora = createLora({ r: 16, alpha: 32, targetModules }, description.architecture.linears, device, { seed: 3 });
    // With B at 0 no gradient would reach A, and nothing would be compared.
    for (const [name, parameter] of lora.parameters) {
      assign(parameter, randn(device, parameter.shape, { std: 0.05, seed: key(4).for(name) }));
    }
    pretrained = buildModel(description, pretrained.weights, device, lora);
    parameters = [...lora.parameters.values()];
  }
  for (const parameter of parameters) requireGrad(parameter);
  const head = projectionHead(weightsOf(headParameters, device), config);
  const samples = Array.from({ length: batch }, (_, n): TrainingSample => ({
    question: Int32Array.from({ length: 40 + ((n * 7) % 20) }, (_unused, i) => (n * 31 + i * 17) % 900),
    answer: Int32Array.from({ length: 8 + (n % 5) }, (_unused, i) => (n * 13 + i * 7) % 900),
    target: randn(device, [Math.max(1, Math.round(latents * (1 - 0.5 * (n / batch)))), width], {
      seed: key(5).for("target", n),
    }),
  }));
  const weights = stage === 1 ? { vision: 10, language: 1 } : { vision: 1, language: 1 };
  const sequential = sequentialStep(pretrained, head);
  const options = { trainsDecoder: stage === 2, loss: "mse_only", weights, weighting: "sample" } as const;
  return {
    ours: (): Result => rotStep(pretrained.model, head, samples, parameters, options),
    theirs: (): Promise<Result> => sequential(samples, parameters, weights),
  };
}

async function compare(a: Result, b: Result): Promise<number> {
  let worst = 0;
  for (const [i, gradient] of a.gradients.entries()) {
    const [x, y] = [await (gradient as Tensor).read(), await (b.gradients[i] as Tensor).read()] as [
      Float32Array,
      Float32Array,
    ];
    const largest = y.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
    for (const [j, value] of x.entries()) worst = Math.max(worst, Math.abs(value - (y[j] as number)) / largest);
  }
  for (const tensor of [a.loss, b.loss, ...a.gradients, ...b.gradients]) tensor?.dispose();
  return worst;
}

function median(values: readonly number[]): number {
  return values.toSorted((x, y) => x - y)[values.length >> 1] as number;
}
