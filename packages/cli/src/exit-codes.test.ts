import { ConfigError, NumericError } from "@rot/models";
import { ConfigurationError, DatasetError } from "@rot/rot";
import { CheckpointError, DiskError } from "@rot/rot/node";
import { DeviceError, DeviceLostError, OutOfMemoryError, ShapeError, UsageError } from "@rot/tensor";
import { CommanderError } from "commander";
import { expect, test } from "vitest";
import { ExitError, exitCodeOf } from "./exit-codes.ts";

const system = (code: string): Error => Object.assign(new Error(`${code}: it was refused`), { code });

test.for([
  ["an error that nobody foresaw", new TypeError("x is not a function"), 1],
  ["what is no error at all", "a string", 1],
  ["a misspelt flag", new CommanderError(1, "commander.unknownOption", "unknown option"), 2],
  ["help", new CommanderError(0, "commander.helpDisplayed", "help"), 0],
  ["settings that contradict each other", new UsageError("both"), 2],
  ["a wrong key in a configuration", new ConfigurationError("run.yaml:3: batchsize"), 2],
  ["a damaged row", new DatasetError("data.jsonl:17", []), 3],
  ["a model of another architecture", new ConfigError("config.json: llama"), 3],
  ["a weight of another shape", new ShapeError("[2] is not [3]"), 3],
  ["a torn checkpoint", new CheckpointError("step-10: hash"), 3],
  ["a missing file", system("ENOENT"), 3],
  ["a file that may not be read", system("EACCES"), 3],
  ["no device", new DeviceError("no adapter"), 4],
  ["memory of the device", new OutOfMemoryError("no room", 10, 20), 5],
  ["a loss that is no number", new NumericError("NaN"), 6],
  ["a full disk", system("ENOSPC"), 7],
  ["a full disk while a checkpoint is written", new DiskError("step-10: ENOSPC"), 7],
  ["a lost device", new DeviceLostError("lost"), 75],
  ["a code of the command's own", new ExitError("stopped", 85), 85],
] as const)("%s exits with its code", ([, error, code]) => {
  expect(exitCodeOf(error)).toBe(code);
});
