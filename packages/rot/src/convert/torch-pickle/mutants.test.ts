import { readFileSync } from "node:fs";
import { fromBytes } from "@rot/tensor/safetensors";
import { expect, test } from "vitest";
import { pickleMutants, zipMutants } from "../../../test/tools/torch-mutants.ts";
import { TorchFileError } from "./error.ts";
import { openTorchFile } from "./reader.ts";

const golden = new URL("../../../test/golden/pt_checkpoints/", import.meta.url);
const files = ["zoo.pt", "zoo_protocol4.pt", "handwritten_ok.pt", "stage1/special_tokens.bin"];

/** Reads a file whole. Anything thrown but our own error goes on. */
async function verdict(file: Uint8Array): Promise<"read" | "refused"> {
  try {
    const opened = await openTorchFile(fromBytes(file), { name: "mutant" });
    for (const { tensor } of opened.tensors)
      for await (const chunk of opened.stream(tensor)) expect(chunk.length).toBeGreaterThan(0);
    return "read";
  } catch (error) {
    if (error instanceof TorchFileError) return "refused";
    throw error;
  }
}

async function count(mutants: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
  const counts = { read: 0, refused: 0 };
  for await (const mutant of mutants) counts[await verdict(mutant)]++;
  return counts;
}

test.for(files)("damaged pickles of %s are read or refused with a typed error", async (name) => {
  const file = readFileSync(new URL(name, golden));
  const { read, refused } = await count(pickleMutants(file, 250, 1));
  expect(read + refused).toBe(250);
  expect(refused).toBeGreaterThan(50);
});

test.for(files)("damaged directories of %s are read or refused with a typed error", async (name) => {
  const file = readFileSync(new URL(name, golden));
  const { read, refused } = await count(zipMutants(file, 150, 2));
  expect(read + refused).toBe(150);
  expect(refused).toBeGreaterThan(75);
});
