import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { count, mutants } from "../../test/tools/safetensors-mutants.ts";
import { fromBytes } from "./byte-source.ts";
import { SafetensorsError } from "./error.ts";
import { openSafetensors } from "./reader.ts";

const data = new URL("../../test/data/safetensors/", import.meta.url);

/** What the reference said, as `test/tools/safetensors-verdicts.py` wrote it down. */
interface About {
  readonly reference: string;
  readonly files: number;
  readonly accepted: number;
  readonly sha256: string;
}

/** The rule we say a file broke; undefined when we accept it. Anything but our own error is thrown. */
async function broken(file: Uint8Array): Promise<string | undefined> {
  try {
    await openSafetensors(fromBytes(file), { name: "mutant" });
    return undefined;
  } catch (error) {
    if (error instanceof SafetensorsError) return error.rule;
    throw error;
  }
}

test("100,000 mutated files get the verdict of safetensors 0.8.0, but for duplicate keys, which only we refuse", async () => {
  const about = JSON.parse(readFileSync(new URL("verdicts.json", data), "utf8")) as About;
  const verdicts = readFileSync(new URL("verdicts.bin", data));
  const digest = createHash("sha256");
  const prefix = Buffer.alloc(4);
  const disagreements: string[] = [];
  let index = 0;
  let accepted = 0;
  let stricter = 0;
  for (const file of mutants()) {
    prefix.writeUInt32LE(file.length);
    digest.update(prefix).update(file);
    const theirs = ((verdicts[index >> 3] ?? 0) >> (index & 7)) % 2 === 1;
    const rule = await broken(file);
    if (rule === undefined) accepted++;
    if (theirs !== (rule === undefined)) {
      if (theirs && rule === "duplicate-key") stricter++;
      else
        disagreements.push(
          `mutant ${index}: the reference ${theirs ? "accepts" : "rejects"} it, we say ${rule ?? "good"}`,
        );
    }
    index++;
  }
  expect(digest.digest("hex"), "the mutants are not those that the reference saw: ask it again").toBe(about.sha256);
  expect(about).toMatchObject({ reference: "safetensors 0.8.0", files: count });
  expect(index).toBe(100_000);
  expect(disagreements).toEqual([]);
  expect(accepted + stricter).toBe(about.accepted);
  // Both verdicts are well represented, and the stricter rule explains little.
  expect(about.accepted / count).toBeGreaterThan(0.3);
  expect(about.accepted / count).toBeLessThan(0.6);
  expect(stricter / count).toBeLessThan(0.01);
});
