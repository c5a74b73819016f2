/** `rot-cli convert`: checkpoints in and out of other people's formats. */
import { checkpointFormats, type CheckpointFormat, fromSafetensors, toSafetensors } from "@rot/rot/node";
import { Command, Option } from "commander";
import { withProgress } from "../progress.ts";
import type { Output } from "../program.ts";
import { exportCommand } from "./convert-export.ts";
import { importCommand } from "./convert-import.ts";

/** The command and its subcommands, with the flags of the reference's scripts. */
export function convert(output: Output): Command {
  const command = new Command("convert").description("take checkpoints in and out of other people's formats");
  const subcommands = [toCommand(output), fromCommand(output), importCommand(output), exportCommand(output)];
  for (const sub of subcommands) command.addCommand(sub);
  return command;
}

/** What both directions between torch and safetensors take. */
interface CommonFlags {
  readonly input: string;
  readonly output: string;
  readonly model_name: string;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

const withCommon = (command: Command): Command =>
  command
    .option("--model_name <name>", "first part of the files' names", "RoT")
    .option("--verbose", "name every tensor")
    .option("--json", "print the result as one JSON object");

interface ToFlags extends CommonFlags {
  readonly max_shard_size: string;
  readonly no_clean_keys?: boolean;
  readonly reference?: boolean;
}

function toCommand(output: Output): Command {
  const command = new Command("to-safetensors")
    .description("a torch or DeepSpeed checkpoint (.pt, .bin) as a folder of safetensors files")
    .requiredOption("--input <file>", "the checkpoint, such as global_step100/mp_rank_00_model_states.pt")
    .requiredOption("--output <folder>", "the folder to make")
    .option("--max_shard_size <size>", "the most bytes of tensors in one file; GB and GiB are both 1024³", "5GB")
    .addOption(new Option("--no_clean_keys", "keep the prefixes module., model. and vision_encoder.mllm_model."))
    .option("--reference", "write tied weights in full under each of their names, as the reference does");
  return withCommon(command)
    .addHelpText(
      "after",
      "\nTied weights are written once; conversion_metadata.json records their other names.\n" +
        "\nExamples:\n  rot-cli convert to-safetensors --input global_step100/mp_rank_00_model_states.pt --output RoT-4B\n",
    )
    .action(async (flags: ToFlags) => {
      const result = await withProgress(output, { label: "convert", unit: "bytes" }, (onProgress) =>
        toSafetensors({
          input: flags.input,
          output: flags.output,
          maxShardSize: flags.max_shard_size,
          modelName: flags.model_name,
          cleanKeys: flags.no_clean_keys !== true,
          reference: flags.reference === true,
          onProgress,
        }),
      );
      const { files, weightMap, aliases, skipped, parameters, bytes } = result;
      if (flags.verbose) for (const [name, file] of weightMap) output.err(`${name} in ${file}\n`);
      if (flags.verbose) for (const [alias, name] of aliases) output.err(`${alias} is ${name}\n`);
      if (skipped.length > 0) output.err(`not tensors, left out: ${some(skipped)}\n`);
      if (flags.json) {
        const plain = {
          files,
          tensors: weightMap.size,
          parameters,
          bytes,
          aliases: Object.fromEntries(aliases),
          skipped,
        };
        output.out(`${JSON.stringify(plain, null, 2)}\n`);
        return;
      }
      output.out(
        `${weightMap.size} tensors, ${parameters.toLocaleString("en")} parameters, ${bytes.toLocaleString("en")} bytes\n`,
      );
      if (aliases.size > 0)
        output.out(`${aliases.size} tied names are recorded, not written twice (--reference writes them)\n`);
      for (const file of files) output.out(`${file}\n`);
    });
}

interface FromFlags extends CommonFlags {
  readonly prefix?: string;
  readonly format: CheckpointFormat;
  readonly restore_weight_tying?: boolean;
}

function fromCommand(output: Output): Command {
  const command = new Command("from-safetensors")
    .description("a folder of safetensors files as a torch checkpoint")
    .requiredOption("--input <folder>", "the folder with MODEL.safetensors, or with MODEL.safetensors.index.json")
    .requiredOption("--output <file>", "the .pt file to make")
    .option("--prefix <text>", "put before every name")
    .addOption(
      new Option("--format <format>", "where the state dict stands").choices(checkpointFormats).default("module"),
    )
    .option("--restore_weight_tying", "tie the output projection to the token table where both hold the same bits");
  return withCommon(command)
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli convert from-safetensors --input RoT-4B --output global_step1/mp_rank_00_model_states.pt\n",
    )
    .action(async (flags: FromFlags) => {
      const { names, bytes, tied, different } = await withProgress(
        output,
        { label: "convert", unit: "bytes" },
        (onProgress) =>
          fromSafetensors({
            input: flags.input,
            output: flags.output,
            modelName: flags.model_name,
            prefix: flags.prefix ?? "",
            format: flags.format,
            restoreWeightTying: flags.restore_weight_tying === true,
            onProgress,
          }),
      );
      if (flags.verbose) for (const name of names) output.err(`${name}\n`);
      for (const [source, target] of different) output.err(`not tied, their values differ: ${source} and ${target}\n`);
      if (flags.json) {
        const plain = { file: flags.output, tensors: names.length, bytes, tied: Object.fromEntries(tied), different };
        output.out(`${JSON.stringify(plain, null, 2)}\n`);
        return;
      }
      output.out(
        `${names.length} tensors, ${tied.size} of them tied, ${bytes.toLocaleString("en")} bytes\n${flags.output}\n`,
      );
    });
}

const some = (names: readonly string[]): string =>
  names.length > 5 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ");
