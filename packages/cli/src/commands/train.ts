/** `rot-cli train`: the main job. */
import { Command } from "commander";
import { ExitError, exitCodes } from "../exit-codes.ts";

/** The command, which for now says what it lacks. */
export function train(): Command {
  return new Command("train")
    .description("train a model to reason in image space (not built yet: it says what is missing)")
    .allowUnknownOption()
    .allowExcessArguments()
    .action(() => {
      throw new ExitError(
        "train is not built yet. The tensor engine is (packages/tensor); the kernels, Qwen3-VL, the renderer and the " +
          "two-stage trainer come next, in this order. `rot-cli doctor` checks the machine meanwhile.",
        exitCodes.internal,
      );
    });
}
