/** A model's small files, with the markers among the tokens where the tokenizer lacks them. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { MarkerRecord } from "../../bundle/config.ts";
import { idsOf, markerTokens } from "../../bundle/markers.ts";
import { readJsonObject } from "../safetensors-folder.ts";

/** What transformers keeps beside weights and config, and that does not depend on the tokens. */
const copied = [
  "generation_config.json",
  "special_tokens_map.json",
  "vocab.json",
  "merges.txt",
  "chat_template.json",
  "chat_template.jinja",
  "preprocessor_config.json",
  "video_preprocessor_config.json",
  "processor_config.json",
];

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
  for (const name of copied) {
    const bytes = await bytesOf(join(base, name));
    if (bytes) files.set(name, bytes);
  }
  for (const [name, edit] of edited(markers)) {
    const bytes = await bytesOf(join(base, name));
    if (!bytes) continue;
    if (!markers || markers.own) {
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
function edited(markers: MarkerRecord | null): [name: string, edit: (json: Json) => Json][] {
  const ids = markers ? [...idsOf(markers)] : [];
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
