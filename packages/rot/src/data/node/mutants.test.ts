import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { key, philox } from "@rot/tensor";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DatasetError } from "../sample.ts";
import { readParquet } from "./parquet.ts";
import { readDataset } from "./read-dataset.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-mutants-"));
});
afterAll(() => rm(folder, { recursive: true }));

const rows = Array.from({ length: 6 }, (_, i) => ({ id: i, question: `Q${i} "é"?`, cot: "a\nb", answer: `${i}` }));
const column = (name: "question" | "cot" | "answer") => ({
  name,
  type: "STRING" as const,
  data: rows.map((row) => row[name]),
});
const files: readonly (readonly [name: string, bytes: Uint8Array, mutants: number])[] = [
  ["rows.jsonl", Buffer.from(rows.map((row) => JSON.stringify(row)).join("\n")), 800],
  ["rows.json", Buffer.from(JSON.stringify(rows)), 200],
  [
    "rows.csv",
    Buffer.from(`id,question,cot,answer\n${rows.map(({ id }) => `${id},"Q, ${id}","a\nb",${id}`).join("\n")}`),
    200,
  ],
  ["rows.txt", Buffer.from(rows.map(({ id }) => `Q${id}||<<1+1=2>> #### ${id}`).join("\n")), 200],
];

/** Bytes flipped, cut out, doubled or put in, at places drawn from a number. */
function mutate(bytes: Uint8Array, number: number): Uint8Array {
  let mutant = Buffer.from(bytes);
  const [count] = philox([number, 0, 0, 0], key(1).words);
  for (let i = 0; i <= count % 4; i++) {
    const [kind, where, what, how] = philox([number, i + 1, 0, 0], key(1).words);
    const at = where % (mutant.length + 1);
    const length = 1 + (how % 16);
    if (kind % 4 === 0 && mutant.length > 0) mutant[at % mutant.length] = what % 256;
    else if (kind % 4 === 1) mutant = Buffer.concat([mutant.subarray(0, at), mutant.subarray(at + length)]);
    else if (kind % 4 === 2) mutant = Buffer.concat([mutant.subarray(0, at + length), mutant.subarray(at)]);
    else mutant = Buffer.concat([mutant.subarray(0, at), Buffer.alloc(length, what % 256), mutant.subarray(at)]);
  }
  return mutant;
}

test.for(files)("mutants of %s give samples or a DatasetError, nothing else", async ([name, bytes, mutants]) => {
  let refused = 0;
  for (let number = 0; number < mutants; number++) {
    const path = join(folder, name);
    await writeFile(path, mutate(bytes, number));
    try {
      const { samples } = await readDataset(path, { onBadRow: "skip" });
      for (const { question, cot, answer } of samples) {
        expect([typeof question, typeof cot, typeof answer]).toEqual(["string", "string", "string"]);
      }
    } catch (error) {
      if (!(error instanceof DatasetError)) throw new Error(`mutant ${number} of ${name}`, { cause: error });
      refused++;
    }
  }
  expect(refused).toBeLessThan(mutants);
});

test("mutants of a Parquet file end in rows or a DatasetError, also one that leads the reader in circles", async () => {
  const bytes = new Uint8Array(
    parquetWriteBuffer({ columnData: (["question", "cot", "answer"] as const).map(column) }),
  );
  const path = join(folder, "rows.parquet");
  const circles = 125;
  for (const number of [...Array(30).keys(), circles]) {
    await writeFile(path, mutate(bytes, number));
    const error = await (async () => {
      for await (const part of readParquet(path, 2000)) expect(Array.isArray(part.rows)).toBe(true);
    })().catch((thrown: unknown) => thrown);
    if (error !== undefined) expect(error, `mutant ${number}`).toBeInstanceOf(DatasetError);
    if (number === circles) expect((error as Error).message).toContain("stands still");
  }
});
