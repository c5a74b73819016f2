import { expect, test } from "vitest";
import { ConfigurationError, configKeys, loadConfig, parseValue } from "./load.ts";

const load = (text: string, name = "run.yaml") => loadConfig({ name, text });
const refused = (text: string): string => {
  try {
    load(text);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigurationError);
    return (error as Error).message;
  }
  return expect.unreachable("it was accepted");
};

test("defaults, then the file, then overrides in their order", () => {
  const file = { name: "a.yaml", text: "optimizer: { lr: 1e-5 }\ntraining:\n  batch_size: 4\n" };
  const { config } = loadConfig(file, [
    { path: "training.batch_size", value: 2, where: "ROT_TRAINING_BATCH_SIZE" },
    { path: "training.batch_size", value: 16, where: "--batch_size" },
  ]);
  expect(config.optimizer).toMatchObject({ lr: 1e-5, warmup_steps: 20, max_grad_norm: 1 });
  expect(config.training).toMatchObject({ batch_size: 16, gradient_accumulation_steps: 1 });
  expect(loadConfig(null).config.head).toEqual({ hidden: 4096, activation: "swiglu" });
});

test.for<[string, RegExp]>([
  ["optimzer:\n  lr: 1", /^run\.yaml:1:1: there is no key "optimzer"; did you mean "optimizer"\?$/],
  [
    "model: m\noptimizer:\n  lrr: 0.5\n",
    /^run\.yaml:3:3: there is no key "optimizer\.lrr"; did you mean "optimizer\.lr"\?$/,
  ],
  ["lr: 1\n", /there is no key "lr"; did you mean "markers\.lr" or "optimizer\.lr"\?$/],
  ["training:\n  warmup_steps: 1\n", /"training\.warmup_steps"; did you mean "optimizer\.warmup_steps"\?$/],
  ["learning_rate: 1\n", /there is no key "learning_rate"; did you mean "optimizer\.lr"\?$/],
  ["training:\n  batch_size: 0\n", /^run\.yaml:2:3: training\.batch_size is 0: Too small/],
  ["training:\n  batch_size: many\n", /^run\.yaml:2:3: training\.batch_size is "many": /],
  ["stage: 3\n", /^run\.yaml:1:1: stage is "3": /],
  ["loss:\n  latent: mse\n", /latent is "mse": .*"mse_only"/],
  ["a: 1\na: 2\n", /^run\.yaml:2:1: Map keys must be unique/],
  ["a: [1\n", /^run\.yaml:/],
  ["model: !!js/function 'x'\n", /^run\.yaml:1:8: Unresolved tag/],
  ["- 1\n", /it is no map/],
  ["__proto__: {model: x}\n", /there is no key|__proto__/],
  ["optimizer:\n  lr: .nan\n", /^run\.yaml:2:3: optimizer\.lr/],
  ["optimizer:\n\tlr: 1\n", /^run\.yaml:2/],
])("%j is refused with its place and the mend", ([text, message]) => {
  expect(refused(text)).toMatch(message);
});

test("an alias bomb and a flood of text are refused", () => {
  const bomb = [
    "a: &a [x, x, x, x, x, x, x, x, x]",
    ..."bcdefghi".split("").map((c, i) => `${c}: &${c} [${`*${"abcdefgh"[i]},`.repeat(9)}]`),
  ].join("\n");
  expect(refused(bomb)).toMatch(/Excessive alias count/);
  expect(refused(`model: ${"x".repeat(2 ** 21)}`)).toMatch(/fewer than/);
});

test("1e-5 is a number, yes is text, and an override of a wrong type names its flag", () => {
  expect(load("optimizer: {lr: 1e-5}").config.optimizer.lr).toBe(1e-5);
  expect(refused("data: {strip_calculator: yes}")).toMatch(/strip_calculator is "yes"/);
  expect(() => loadConfig(null, [{ path: "optimizer.lr", value: "fast", where: "--lr" }])).toThrow(
    /^--lr: optimizer\.lr is "fast"/,
  );
  expect(() => loadConfig(null, [{ path: "optimizer.lrr", value: 1, where: "--set optimizer.lrr" }])).toThrow(
    /^--set optimizer\.lrr: there is no key/,
  );
});

test("a stage may be written as a number", () => {
  expect(load("stage: 2").config.stage).toBe("2");
  expect(loadConfig(null, [{ path: "stage", value: 1, where: "--set stage" }]).config.stage).toBe("1");
});

test("a list needs no brackets where one is wanted", () => {
  const { config } = loadConfig(null, [
    { path: "lora.target_modules", value: "q_proj, v_proj", where: "--set lora.target_modules" },
    { path: "optimizer.betas", value: "0.9,0.95", where: "--set optimizer.betas" },
  ]);
  expect(config.lora.target_modules).toEqual(["q_proj", "v_proj"]);
  expect(config.optimizer.betas).toEqual([0.9, 0.95]);
});

test("numbers are read as people write them", () => {
  expect([".5", "5.", "+3", "-.5e-3", "2E3", "1.2.3", "."].map(parseValue)).toEqual([
    0.5,
    5,
    3,
    -0.0005,
    2000,
    "1.2.3",
    ".",
  ]);
});

test("values are read as people write them", () => {
  expect(["3", "1e-5", "true", "null", "[a, 2]", "x y", "-0.5", "01", "mse_only"].map(parseValue)).toEqual([
    3,
    1e-5,
    true,
    null,
    ["a", 2],
    "x y",
    -0.5,
    "01",
    "mse_only",
  ]);
});

test("every key has a description and a default that the schema accepts", () => {
  const keys = configKeys();
  expect(keys.length).toBeGreaterThan(40);
  for (const { path, description } of keys) expect(description, path).not.toBe("");
  expect(keys.find(({ path }) => path === "optimizer.lr")).toMatchObject({ value: 2e-5 });
});

const published = `
data:
  dataset_name: gsm8kaug
  processed_dir: data/GSM8k-Aug-NL
  cache_dir: data/cache
rendering:
  image_size: 512
  font_size: 16
  padding: 40
llm_model:
  use_custom_llm: true
  model_path: ckpt/base/Qwen3-VL-4B-Instruct
training:
  batch_size: 16
  learning_rate: "2e-5"
  loss_type: mse_only
  stage2_mode: true
  enable_lora: true
  train_lm_head_only: false
  freeze_projection_head: true
  loss_weights:
    vision_loss_weight: 0.0
    lm_loss_weight: 1.0
deepspeed:
  config_file: configs/deepspeed_config.json
  zero_optimization:
    stage: 2
logging:
  log_interval: 5
  save_interval: 200
  stage1_checkpoint: output/checkpoints/stage1/checkpoint_epoch_2
misc:
  seed: 42
`;

test("the published files are read as the published code read them, with a warning for each idle key", () => {
  const { config, warnings } = load(published);
  expect(config).toMatchObject({
    model: "ckpt/base/Qwen3-VL-4B-Instruct",
    stage: "2",
    seed: 42,
    stage1_checkpoint: "output/checkpoints/stage1/checkpoint_epoch_2",
    data: { dataset: "data/GSM8k-Aug-NL/gsm8kaug_train_processed.jsonl" },
    rendering: { font_size: 16, padding: 4 },
    optimizer: { lr: 2e-5 },
    training: { batch_size: 16 },
    stage2: { mode: "lora", freeze_head: true },
    loss: { stage2_vision_weight: 0, language_weight: 1, vision_weight: 10 },
    checkpoint: { every: 200 },
  });
  expect(warnings).toContain("run.yaml:9:3: rendering.padding never had an effect, and has none");
  expect(warnings.join("\n")).toMatch(
    /data\.cache_dir never.*\n.*image_size never.*\n.*padding never.*\n.*loss_type never/,
  );
  expect(warnings.join("\n")).toMatch(/deepspeed\.config_file has no meaning here/);
});

test("a published stage 2 in which nothing learns is refused, with its line", () => {
  expect(refused(published.replace("enable_lora: true", "enable_lora: false"))).toMatch(
    /^run\.yaml:18:3: stage2\.mode is "none": .*"lm_head"/,
  );
});

test("a key that the published code did not know either is refused, with its line", () => {
  expect(refused(published.replace("seed: 42", "sed: 42"))).toMatch(/run\.yaml:32:1: there is no key "misc"/);
});
