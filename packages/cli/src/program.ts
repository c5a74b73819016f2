/** The command line: every command, its flags and its help. */
import { Command } from "commander";
import { bench } from "./commands/bench.ts";
import { config } from "./commands/config.ts";
import { convert } from "./commands/convert.ts";
import { doctor } from "./commands/doctor.ts";
import { evaluate } from "./commands/evaluate.ts";
import { generate } from "./commands/generate.ts";
import { init } from "./commands/init.ts";
import { inspect } from "./commands/inspect.ts";
import { preprocess } from "./commands/preprocess.ts";
import { render } from "./commands/render.ts";
import { report } from "./commands/report.ts";
import { train } from "./commands/train.ts";
import { tune } from "./commands/tune.ts";
import { version } from "./version.ts";

/** Where a command writes: results to `out`, everything else to `err`. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
  /** Whether `err` is a terminal, on which a line may be redrawn. */
  readonly terminal: boolean;
}

/** Where a command reads what is piped or typed. */
export type Input = NodeJS.ReadableStream & { readonly isTTY?: boolean };

/** The whole program, for `main` and for tests. It throws instead of exiting. */
export function program(output: Output, input: Input = process.stdin): Command {
  const root = new Command("rot-cli")
    .description("Render-of-Thought: latent visual reasoning, trained and run on any GPU that speaks WebGPU.")
    .version(version)
    .showHelpAfterError("(run rot-cli --help for the commands)")
    .configureOutput({ writeOut: (text) => output.out(text), writeErr: (text) => output.err(text) })
    .exitOverride()
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli doctor\n  rot-cli train\n  rot-cli evaluate --checkpoint runs/gsm8k --data_file gsm8k/test.jsonl\n",
    );
  for (const command of [
    bench(output),
    config(output),
    convert(output),
    doctor(output),
    evaluate(output),
    generate(output, input),
    init(output),
    inspect(output),
    preprocess(output),
    render(output, input),
    report(output),
    train(output),
    tune(output),
  ]) {
    const help = (name: string): string => `(run rot-cli ${name} --help for its flags)`;
    root.addCommand(command.copyInheritedSettings(root).showHelpAfterError(help(command.name())));
    for (const inner of command.commands) {
      inner.copyInheritedSettings(command).showHelpAfterError(help(`${command.name()} ${inner.name()}`));
    }
  }
  return root;
}
