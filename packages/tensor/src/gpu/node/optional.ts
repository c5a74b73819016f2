/** Packages that may be missing: npm leaves out an optional one that does not fit the machine. */
import { DeviceError } from "../../errors.ts";

/**
 * Imports a package if it is there. The name is not a literal, so that neither the compiler nor a bundler asks for it.
 *
 * @returns undefined when the package is not installed
 * @throws {DeviceError} when it is installed but does not load
 */
export async function importOptional<Module>(name: string): Promise<Module | undefined> {
  try {
    return (await import(/* @vite-ignore */ name)) as Module;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ERR_MODULE_NOT_FOUND" && message.includes(`'${name}'`)) return undefined;
    throw new DeviceError(`the npm package ${name} is installed but does not load: ${firstLine(error)}`, {
      cause: error,
    });
  }
}

/** The first line of whatever was thrown: what fits into a notice. */
export function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim().split("\n", 1)[0] ?? "";
}
