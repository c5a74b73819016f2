/** What can be wrong with a torch file, by name and in words. */
import { WeightError } from "@rot/tensor";

/** What was broken. Stable, for programs; the message is for people. */
export type TorchRule =
  /** Neither a zip of torch nor the older container, or one that is damaged, encrypted or compressed. */
  | "container"
  /** The bytes of an entry do not have the checksum that the archive states. */
  | "checksum"
  /** A pickle that ends early, takes from an empty stack or reads a memo that was never written. */
  | "pickle"
  /** An opcode that a checkpoint of tensors does not need. */
  | "opcode"
  /** A class or function that a checkpoint of tensors does not need. */
  | "global"
  /** A tensor whose size, stride, offset or storage cannot be. */
  | "tensor"
  /** More of something than any checkpoint has. */
  | "limit";

/** A {@link WeightError} that also says what was broken. */
export class TorchFileError extends WeightError {
  readonly rule: TorchRule;

  constructor(rule: TorchRule, message: string) {
    super(message);
    this.rule = rule;
  }
}

/** Throws a {@link TorchFileError} that names the file. */
export type Fail = (rule: TorchRule, message: string) => never;

/** `value` for a message: control characters escaped, cut at 80 characters, since files may be hostile. */
export function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
}
