/** A model's small files, with the markers among the tokens where the tokenizer lacks them. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { companions } from "@rot/models/node";
import type { MarkerRecord } from "../../bundle/config.ts";
import { idsOf, markerTokens } from "../../bundle/markers.ts";
import { readJsonObject } from "../safetensors-folder.ts";

/** An ordinary added token, as `add_tokens` of transformers makes it. */
const plain = { single_word: false, lstrip: false, rstrip: false, normalized: true, special: false };

/**
 * The files around a model, by name.
 *
 * @param base     the folder they are from
 * @param markers  null, or those that the tokenizer has itself, for plain copies
 */
export async function companionFiles(base: string, markers: MarkerRecord | null): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const edits = new Map(markers && !markers.own ? edited(markers) : []);
  for (const name of companions) {
    const bytes = await bytesOf(join(base, name));
    if (!bytes) continue;
    const edit = edits.get(name);
    if (!edit) {
      files.set(name, bytes);
      continue;
    }
    const json = Object.fromEntries(await readJsonObject(join(base, name)));
    files.set(name, Buffer.from(`${JSON.stringify(edit(json), null, 2)}\n`));
  }
  return files;
}

type Json = Record<string, unknown>;

/** Where transformers, of different versions, looks for added tokens. */
function edited(markers: MarkerRecord): [name: string, edit: (json: Json) => Json][] {
  const ids = [...idsOf(markers)];
  const spelling = (i: number): string =>
    (ids.length === 3 ? markerTokens[i] : [markerTokens[0], markerTokens[2]][i]) as string;
  const tokens = ids.map((id, i) => ({ id, content: spelling(i), ...plain }));
  return [
    [
      "tokenizer.json",
      (json) => ({ ...json, added_tokens: [...((json["added_tokens"] as Json[] | undefined) ?? []), ...tokens] }),
    ],
    [
      "tokenizer_config.json",
      (json) =>
        json["added_tokens_decoder"] === undefined
          ? json
          : {
              ...json,
              added_tokens_decoder: {
                ...(json["added_tokens_decoder"] as Json),
                ...Object.fromEntries(tokens.map(({ id, ...token }) => [String(id), token])),
              },
            },
    ],
    [
      "added_tokens.json",
      (json) => ({ ...json, ...Object.fromEntries(tokens.map(({ id, content }) => [content, id])) }),
    ],
  ];
}

const bytesOf = (path: string): Promise<Buffer | null> =>
  readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
