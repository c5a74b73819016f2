/** `rot-cli config`: the keys of a configuration, and what a file of them comes to. */
import { configJsonSchema, configKeys, loadConfig } from "@rot/rot";
import { Command } from "commander";
import { stringify } from "yaml";
import { readConfigFile } from "../flags.ts";
import type { Output } from "../program.ts";

/** The command. */
export function config(output: Output): Command {
  const root = new Command("config").description("look into the configuration of training");
  root
    .command("keys")
    .description("list every key, its default and what it does")
    .option("--json", "print JSON")
    .action(({ json }: { readonly json?: boolean }) => {
      const keys = configKeys();
      output.out(json ? `${JSON.stringify(keys, null, 2)}\n` : keys.map(keyLine).join(""));
    });
  root
    .command("show")
    .description("print a file with all defaults filled in; the published configurations are translated")
    .argument("[file]", "YAML or JSON; without it the defaults")
    .action(async (file?: string) => {
      const { config: whole, warnings } = loadConfig(file === undefined ? null : await readConfigFile(file, ""));
      for (const warning of warnings) output.err(`${warning}\n`);
      output.out(stringify(whole));
    });
  root
    .command("validate")
    .description("check a file; exits with 2 where it is wrong")
    .argument("<file>", "YAML or JSON")
    .action(async (file: string) => {
      const { warnings } = loadConfig(await readConfigFile(file, ""));
      for (const warning of warnings) output.err(`${warning}\n`);
      output.out(`${file}: all keys are known and their values fit\n`);
    });
  root
    .command("schema")
    .description("print the JSON Schema of a file, for editors")
    .action(() => output.out(`${JSON.stringify(configJsonSchema(), null, 2)}\n`));
  return root.addHelpText(
    "after",
    "\nExamples:\n  rot-cli config keys\n  rot-cli config show run.yaml\n  rot-cli config validate run.yaml\n  rot-cli config schema > rot.schema.json\n",
  );
}

const keyLine = ({ path, value, description }: ReturnType<typeof configKeys>[number]): string =>
  `${path} = ${JSON.stringify(value)}\n    ${description}\n`;
