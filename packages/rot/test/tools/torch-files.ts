/** Torch files put together by hand, for what torch itself would never write. */
import { fromBytes } from "@rot/tensor/safetensors";
import { readZipDirectory } from "../../src/convert/torch-pickle/zip.ts";
import { writeZip } from "../../src/convert/torch-pickle/zip-writer.ts";

/** A parts list: numbers are bytes, strings their UTF-8. */
export const bytes = (...parts: readonly (number | string | Uint8Array)[]): Uint8Array =>
  Buffer.concat(parts.map((part) => (typeof part === "number" ? Uint8Array.of(part) : Buffer.from(part as string))));

/** Everything that `chunks` gives, in one piece. */
export async function whole(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(Uint8Array.from(chunk));
  return Buffer.concat(all);
}

/** An archive with these entries. */
export const zip = (entries: Iterable<readonly [name: string, data: Uint8Array | string]>): Promise<Uint8Array> =>
  whole(
    writeZip(
      [...entries].map(([name, data]) => {
        const content = bytes(data);
        return { name, size: content.length, data: content };
      }),
    ),
  );

/** A checkpoint with this pickle and these storages, otherwise as torch writes it. */
export const checkpoint = (pickle: Uint8Array, storages: Iterable<readonly [key: string, data: Uint8Array]> = []) =>
  zip([
    ["archive/data.pkl", pickle],
    ["archive/byteorder", "little"],
    ...[...storages].map(([key, data]) => [`archive/data/${key}`, data] as const),
    ["archive/version", "3\n"],
  ]);

/** The entries of an archive, by name. */
export async function unzip(file: Uint8Array): Promise<Map<string, Uint8Array>> {
  const entries = await readZipDirectory(fromBytes(file), (_, message) => {
    throw new Error(message);
  });
  return new Map([...entries.values()].map(({ name, begin, end }) => [name, file.subarray(begin, end)]));
}
