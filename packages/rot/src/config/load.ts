/** Configurations from YAML or JSON text, with errors that name the line. */
import { UsageError } from "@rot/tensor";
import { isMap, isScalar, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { type RunConfig, schema } from "./schema.ts";
import { isReferenceConfig, translateReference } from "./reference.ts";
import { namesOfOthers, nearest } from "./nearest.ts";

/** A mistake in a configuration. The message names the place, the value and the mend. */
export class ConfigurationError extends UsageError {
  override readonly name = "ConfigurationError";
}

/** A key and its value, from wherever it was given. Later ones win. */
export interface Override {
  /** `training.batch_size` */
  readonly path: string;
  readonly value: unknown;
  /** What messages call the place: `--batch_size`, `ROT_TRAINING_BATCH_SIZE`. */
  readonly where: string;
}

/** A configuration file. */
export interface ConfigFile {
  readonly name: string;
  readonly text: string;
}

/** What was read, and what of it does nothing. */
export interface LoadedConfig {
  readonly config: RunConfig;
  /** One line for each key of the reference's own files that has no effect here. */
  readonly warnings: readonly string[];
}

const LARGEST = 2 ** 20;

type Tree = { [key: string]: unknown };

/**
 * The configuration of a run: defaults, then a file, then overrides in their order.
 *
 * @param file  ours, or one of the published configurations
 * @throws {ConfigurationError} for text that is no YAML, an unknown key, or a value that does not fit
 */
export function loadConfig(file: ConfigFile | null, overrides: readonly Override[] = []): LoadedConfig {
  const places = new Map<string, string>();
  const { tree, warnings } = file ? readFile(file, places) : { tree: {} as Tree, warnings: [] };
  for (const { path, value, where } of overrides) {
    // q_proj,v_proj without brackets is a list where one is wanted.
    const isList = typeof value === "string" && lists.has(path);
    set(tree, path.split("."), isList ? parseValue(`[${value}]`) : value, where);
    places.set(path, where);
  }
  // Stages have names, of which two look like numbers.
  if (typeof tree["stage"] === "number") tree["stage"] = String(tree["stage"]);
  const parsed = schema.safeParse(tree);
  if (parsed.success) return { config: parsed.data, warnings };
  const lines = parsed.error.issues.flatMap((issue) => {
    const path = issue.path.map(String);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => {
        const full = [...path, key].join(".");
        const meant = suggestions(key, path);
        const mend = meant.length > 0 ? `; did you mean ${meant.map((each) => `"${each}"`).join(" or ")}?` : "";
        return `${places.get(full) ?? full}: there is no key "${full}"${mend}`;
      });
    }
    const full = path.join(".");
    return [`${places.get(full) ?? full}: ${full} is ${shown(tree, path)}: ${issue.message}`];
  });
  throw new ConfigurationError(lines.join("\n"));
}

/** Every key with its description and default, in order: `training.batch_size`. */
export function configKeys(): readonly {
  readonly path: string;
  readonly description: string;
  readonly value: unknown;
}[] {
  const defaults = schema.parse({}) as Tree;
  const described: { path: string; description: string; value: unknown }[] = [];
  const walk = (
    shape: Readonly<Record<string, { description?: string | undefined }>>,
    values: Tree,
    prefix: string,
  ): void => {
    for (const [key, member] of Object.entries(shape)) {
      const inner = innerShape(member);
      if (inner) walk(inner, values[key] as Tree, `${prefix}${key}.`);
      else described.push({ path: prefix + key, description: member.description ?? "", value: values[key] });
    }
  };
  walk(schema.shape, defaults, "");
  return described;
}

/** Keys whose values are lists. */
const lists: ReadonlySet<string> = new Set(
  configKeys().flatMap(({ path, value }) => (Array.isArray(value) ? [path] : [])),
);

/** The JSON Schema of a configuration file. */
export const configJsonSchema = (): object => z.toJSONSchema(schema, { io: "input" });

/** The members of a section; undefined for a plain value. */
function innerShape(member: unknown): Record<string, { description?: string | undefined }> | undefined {
  const inner = (member as { def?: { innerType?: { shape?: Record<string, { description?: string }> } } }).def
    ?.innerType;
  return inner?.shape;
}

function keysAt(path: readonly string[]): string[] {
  const [section] = path;
  const shape: Readonly<Record<string, unknown>> = schema.shape;
  const members =
    section === undefined ? shape : innerShape(Object.hasOwn(shape, section) ? shape[section] : undefined);
  return Object.keys(members ?? {});
}

/** Keys that an unknown one may have meant: of its name elsewhere, of another trainer's name for it, or spelt nearly so. */
function suggestions(key: string, section: readonly string[]): readonly string[] {
  const namesakes = configKeys().filter(({ path }) => path.endsWith(`.${key}`));
  if (namesakes.length > 0) return namesakes.map(({ path }) => path);
  const known = namesOfOthers.get(key);
  if (known !== undefined) return [known];
  const close = nearest(key, keysAt(section));
  return close === undefined ? [] : [[...section, close].join(".")];
}

function readFile({ name, text }: ConfigFile, places: Map<string, string>): { tree: Tree; warnings: string[] } {
  if (text.length > LARGEST)
    throw new ConfigurationError(`${name} has ${text.length} characters; a configuration has fewer than ${LARGEST}`);
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, uniqueKeys: true, strict: true });
  const at = (offset: number): string => {
    const { line, col } = lineCounter.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const [problem] = [...document.errors, ...document.warnings];
  if (problem)
    throw new ConfigurationError(
      `${at(problem.pos[0])}: ${problem.message.split("\n")[0]?.replace(/ at line .*$/, "")}`,
    );
  if (document.contents === null) return { tree: {}, warnings: [] };
  if (!isMap(document.contents)) throw new ConfigurationError(`${name}: it is no map of keys to values`);
  const collect = (node: unknown, prefix: string): void => {
    if (!isMap(node)) return;
    for (const { key, value } of node.items) {
      if (!isScalar(key)) continue;
      const path = prefix + String(key.value);
      if (key.range) places.set(path, at(key.range[0]));
      collect(value, `${path}.`);
    }
  };
  collect(document.contents, "");
  let tree: Tree;
  try {
    tree = document.toJS({ maxAliasCount: 100 }) as Tree;
  } catch (error) {
    throw new ConfigurationError(`${name}: ${(error as Error).message}`);
  }
  if (!isReferenceConfig(tree)) return { tree, warnings: [] };
  const translated = translateReference(tree, (path) => places.get(path) ?? name);
  // Errors about a translated key should name the line of the key it came from.
  for (const [ours, theirs] of translated.origins) places.set(ours, places.get(theirs) ?? name);
  return { tree: translated.tree, warnings: [...translated.warnings] };
}

function set(tree: Tree, [key = "", ...rest]: readonly string[], value: unknown, where: string): void {
  if (key === "" || key === "__proto__") throw new ConfigurationError(`${where}: "${key}" is no key`);
  if (rest.length === 0) {
    tree[key] = value;
    return;
  }
  const inner = Object.hasOwn(tree, key) ? tree[key] : undefined;
  const next: Tree = typeof inner === "object" && inner !== null && !Array.isArray(inner) ? (inner as Tree) : {};
  tree[key] = next;
  set(next, rest, value, where);
}

function shown(tree: Tree, path: readonly string[]): string {
  const value = path.reduce<unknown>((inner, key) => (inner as Tree | undefined)?.[key], tree);
  return (JSON.stringify(value) ?? "missing").slice(0, 60);
}

/** A value as it is written on a command line or in the environment: a number, true, false, null, a list, or text. */
export function parseValue(text: string): unknown {
  if (/^(true|false|null)$/i.test(text)) return JSON.parse(text.toLowerCase()) as unknown;
  if (/^[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) return Number(text);
  if (/^\[.*\]$/s.test(text))
    return text
      .slice(1, -1)
      .split(",")
      .map((part) => parseValue(part.trim()));
  return text;
}
