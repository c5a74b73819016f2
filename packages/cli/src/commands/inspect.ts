/** `rot-cli inspect`: what is in a checkpoint, without loading it. */
import {
  compareCheckpoints,
  type CheckpointDifference,
  inspectCheckpoint,
  inspectGlobals,
  type Inspection,
} from "@rot/rot/node";
import { UsageError } from "@rot/tensor";
import { Command } from "commander";
import { progress } from "../progress.ts";
import type { Output } from "../program.ts";

interface Flags {
  readonly diff?: string;
  readonly values?: boolean;
  readonly clean_keys?: boolean;
  readonly listGlobals?: boolean;
  readonly json?: boolean;
}

/** The command. Nothing in a file is executed, and of its tensors only the headers are read. */
export function inspect(output: Output): Command {
  return new Command("inspect")
    .description("list what is in a checkpoint: .pt, .bin, .safetensors, an index, a model or PEFT folder")
    .argument("<path>", "a file or folder")
    .option("--diff <other>", "compare with another checkpoint, of any format: names, shapes, dtypes")
    .option("--values", "with --diff: also the values, by their largest difference")
    .option("--clean_keys", "with --diff: without the prefixes that convert to-safetensors cuts")
    .option("--list-globals", "only the classes and functions that a torch file names, also one that is refused")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nExamples:\n  rot-cli inspect mp_rank_00_model_states.pt\n  rot-cli inspect RoT-4B --json\n" +
        "  rot-cli inspect a.pt --diff RoT-4B --clean_keys --values\n",
    )
    .action(async (path: string, flags: Flags) => {
      const print = <T>(value: T, text: (value: T) => string): void =>
        output.out(flags.json ? `${JSON.stringify(value, null, 2)}\n` : text(value));
      if (flags.diff === undefined && (flags.values || flags.clean_keys)) {
        throw new UsageError("--values and --clean_keys need --diff OTHER");
      }
      if (flags.listGlobals) {
        print(await inspectGlobals(path), ({ globals, stopped }) =>
          [...globals.map(({ name, allowed }) => `${allowed ? "allowed" : "REFUSED"}  ${name}`), stopped, ""]
            .filter((line) => line !== undefined)
            .join("\n"),
        );
      } else if (flags.diff !== undefined) {
        const report = progress(output, { label: "compare", unit: "bytes" });
        const values = flags.values === true;
        const difference = await compareCheckpoints(path, flags.diff, {
          values,
          cleanKeys: flags.clean_keys === true,
          onProgress: (step) => report.update(step),
        });
        if (values) report.finish();
        print(difference, differenceText);
      } else {
        print(await inspectCheckpoint(path), inspectionText);
      }
    });
}

function inspectionText(found: Inspection): string {
  const width = Math.max(0, ...found.tensors.map(({ name }) => name.length));
  const lines = [
    `${found.path}: ${found.kind}`,
    ...found.files.map((file) => `  file ${file}`),
    ...found.tensors.map(
      ({ name, dtype, shape }) => `  ${name.padEnd(width)}  ${dtype.padEnd(4)}  [${shape.join(", ")}]`,
    ),
    ...found.tied.map((names) => `  tied ${names.join(" = ")}`),
    ...Object.entries(found.metadata).map(([key, value]) => `  metadata ${key}: ${JSON.stringify(value)}`),
    ...Object.entries(found.values).map(([key, value]) => `  value ${key}: ${JSON.stringify(value)}`),
    ...found.globals.map((name) => `  global ${name}`),
    `${found.tensors.length} tensors, ${found.parameters.toLocaleString("en")} parameters, ${found.bytes.toLocaleString("en")} bytes`,
  ];
  return `${lines.map(printable).join("\n")}\n`;
}

function differenceText({ onlyInA, onlyInB, shapes, dtypes, values, common }: CheckpointDifference): string {
  const lines = [
    ...onlyInA.map((name) => `- ${name}`),
    ...onlyInB.map((name) => `+ ${name}`),
    ...shapes.map(({ name, a, b }) => `shape ${name}: [${a.join(", ")}] and [${b.join(", ")}]`),
    ...dtypes.map(({ name, a, b }) => `dtype ${name}: ${a} and ${b}`),
    ...(values ?? []).map(({ name, largest, elements }) => `value ${name}: ${elements} differ, at most by ${largest}`),
  ];
  const compared = values ? "names, shapes, dtypes and values" : "names, shapes and dtypes";
  if (lines.length === 0) lines.push(`equal in ${compared}: ${common} tensors`);
  return `${lines.map(printable).join("\n")}\n`;
}

/** Names come from outside: what would move a terminal's cursor is shown as an escape. */
const printable = (line: string): string =>
  // oxlint-disable-next-line no-control-regex
  line.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) => JSON.stringify(character).slice(1, -1));
