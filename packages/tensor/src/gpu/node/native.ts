/** What only native calls can do: load a library by its path, change the environment that C code reads, hear stderr. */
import { fstatSync, readSync } from "node:fs";
import { DeviceError } from "../../errors.ts";
import { importOptional } from "./optional.ts";

interface Library {
  func(definition: string): (...values: unknown[]) => unknown;
}

interface Koffi {
  load(path: string | null): Library;
}

let koffi: Koffi | undefined;

/** The package `koffi`, or undefined where it is not installed. */
export async function findKoffi(): Promise<Koffi | undefined> {
  koffi ??= await importOptional<{ default: Koffi }>("koffi").then((found) => found?.default);
  return koffi;
}

/** The package `koffi`. @throws {DeviceError} where it is not installed */
export async function requireKoffi(): Promise<Koffi> {
  const found = await findKoffi();
  if (!found) throw new DeviceError("the npm package koffi is not installed");
  return found;
}

/**
 * Runs `action` with other environment variables, as C code and not as JavaScript sees them: in a worker,
 * `process.env` is a copy. They are back when `action` has settled, so that no child process sees the change.
 */
export async function withVariables<T>(
  variables: Readonly<Record<string, string | undefined>>,
  action: () => Promise<T>,
): Promise<T> {
  const libc = (await requireKoffi()).load(null);
  const get = libc.func("const char *getenv(const char *name)");
  const set = libc.func("int setenv(const char *name, const char *value, int overwrite)");
  const unset = libc.func("int unsetenv(const char *name)");
  const write = (entries: readonly (readonly [string, string | undefined])[]): void => {
    for (const [name, value] of entries) {
      if (value === undefined) unset(name);
      else set(name, value, 1);
    }
  };
  const before = Object.keys(variables).map((name) => [name, (get(name) as string | null) ?? undefined] as const);
  write(Object.entries(variables));
  try {
    return await action();
  } finally {
    write(before);
  }
}

/**
 * Runs `action` and catches what native code prints on stderr before it returns. Dawn greets every lavapipe with two
 * warnings that nobody can act on; but when it finds nothing, its last line says why.
 */
export async function listening<T>(action: () => T): Promise<{ result: T; printed: string }> {
  const found = process.platform === "linux" ? await findKoffi() : undefined;
  if (!found) return { result: action(), printed: "" };
  const libc = found.load(null);
  const duplicate = libc.func("int dup(int descriptor)");
  const replace = libc.func("int dup2(int from, int to)");
  // Not Node's `close`: in a worker it warns of descriptors that it did not open.
  const close = libc.func("int close(int descriptor)");
  const ear = libc.func("int memfd_create(const char *name, unsigned int flags)")("stderr", 1) as number;
  const stderr = ear < 0 ? -1 : (duplicate(2) as number);
  if (stderr < 0) return { result: action(), printed: "" };
  replace(ear, 2);
  try {
    const result = action();
    const text = Buffer.alloc(fstatSync(ear).size);
    readSync(ear, text, 0, text.length, 0);
    return { result, printed: text.toString("utf8") };
  } finally {
    replace(stderr, 2);
    close(stderr);
    close(ear);
  }
}
