import { constants } from "node:buffer";
import { mkdir, mkdtemp, readdir, readlink, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseMap, RowError } from "../formats.ts";
import { DatasetError } from "../sample.ts";
import { readDataset, type ReadOptions } from "./read-dataset.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot data "));
});
afterEach(() => rm(folder, { recursive: true }));

async function read(name: string, content: string | Uint8Array, options?: ReadOptions) {
  const path = join(folder, name);
  await writeFile(path, content);
  return readDataset(path, options);
}
const message = async (name: string, content: string | Uint8Array, options?: ReadOptions): Promise<string> => {
  const error = await read(name, content, options).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DatasetError);
  return (error as Error).message;
};
const row = (fields: object = {}): string => JSON.stringify({ question: "Q?", cot: "A\nB", answer: "7", ...fields });

test("RoT's own rows keep their ids; rows without one are numbered from 0", async () => {
  const { samples, format } = await read("a.jsonl", `${row({ id: 12 })}\n${row({ id: "x-1" })}\n${row({ id: 1.5 })}\n`);
  expect(format).toBe("rot");
  expect(samples.map(({ id }) => id)).toEqual([12, "x-1", 2]);
  expect(samples[0]).toEqual({ id: 12, question: "Q?", cot: "A\nB", answer: "7" });
});

test("GSM8K's answer is split at the last ####, and its calculator marks can go", async () => {
  const text = JSON.stringify({ question: "Q", answer: "5 #### 3 = <<5-3=2>>2\nso\n#### 1,002" });
  expect((await read("a.jsonl", text)).samples[0]).toMatchObject({ cot: "5 #### 3 = <<5-3=2>>2\nso", answer: "1,002" });
  const { samples, format } = await read("a.jsonl", text, { stripCalculator: true });
  expect([format, samples[0]?.cot]).toEqual(["gsm8k", "5 #### 3 = 2\nso"]);
});

test("GSM8k-Aug is lines of text, and a chain may be empty there", async () => {
  const { samples, format } = await read("a.txt", "Why||?||<<1+1=2>> <<2*2=4>> #### 4\r\n\nWho?||#### 5\n");
  expect(format).toBe("gsm8k-aug");
  expect(samples).toEqual([
    { id: 0, question: "Why", cot: "?||<<1+1=2>> <<2*2=4>>", answer: "4" },
    { id: 1, question: "Who?", cot: "", answer: "5" },
  ]);
});

test("SVAMP joins body and question", async () => {
  const record = { ID: "chal-1", Body: "He has 5", Question: "How many?", Equation: "( 5.0 - 2.0 )", Answer: 3.0 };
  expect((await read("s.json", JSON.stringify([record, { ...record, ID: "b", Body: "He left." }]))).samples).toEqual([
    { id: "chal-1", question: "He has 5. How many?", cot: "( 5.0 - 2.0 )", answer: "3" },
    { id: "b", question: "He left. How many?", cot: "( 5.0 - 2.0 )", answer: "3" },
  ]);
});

test("MATH's answer is its own field or the last box", async () => {
  const lines = [
    { problem: "P", solution: "so \\boxed{\\frac{1}{2}}$.", unique_id: "test/1.json" },
    { problem: "P", solution: "x", answer: "3" },
    { problem: "P", solution: "it is \\boxed 7." },
  ];
  const { samples, format } = await read("m.jsonl", lines.map((line) => JSON.stringify(line)).join("\n"));
  expect(format).toBe("math");
  expect(samples.map(({ id, answer }) => [id, answer])).toEqual([
    ["test/1.json", "\\frac{1}{2}"],
    [1, "3"],
    [2, "7"],
  ]);
  expect(await message("m.jsonl", '{"problem":"P","solution":"\\\\boxed{7"}')).toContain("braces of \\boxed");
});

test("CSV with a map, quoted newlines and a byte-order mark", async () => {
  const options = { map: parseMap("question=q, cot = why,answer=a,id=n") };
  const text = '\uFEFFn,q,why,a\r\n3,"What, then?","one\r\ntwo",4\r\n';
  expect((await read("c.csv", text, options)).samples).toEqual([
    { id: "3", question: "What, then?", cot: "one\ntwo", answer: "4" },
  ]);
  expect(await message("c.csv", "q,why,a\n1,2\n", options)).toContain("c.csv:2: the row has another number of columns");
});

test("Parquet in pieces, compressed", async () => {
  const count = 9000;
  const column = (name: string, make: (i: number) => string) => ({
    name,
    type: "STRING" as const,
    data: Array.from({ length: count }, (_, i) => make(i)),
  });
  const buffer = parquetWriteBuffer({
    columnData: [column("question", (i) => `Q${i}`), column("answer", (i) => `because ${i}\n#### ${i}`)],
    rowGroupSize: 1000,
  });
  const { samples, format } = await read("p.parquet", new Uint8Array(buffer));
  expect([format, samples.length]).toEqual(["gsm8k", count]);
  expect(samples.at(-1)).toEqual({ id: 8999, question: "Q8999", cot: "because 8999", answer: "8999" });
});

test("a named format is taken as named, an unknown one refused with the list", async () => {
  expect(await message("a.jsonl", row(), { format: "math" })).toMatch(
    /a\.jsonl:1: it has no "solution"|has no "problem"/,
  );
  expect(await message("a.jsonl", row(), { format: "gsm" })).toMatch(/no format "gsm": there are rot, gsm8k,/);
});

test.for<[string, string, RegExp]>([
  ["a torn last line", `${row()}\n{"question": "Q", "co`, /a\.jsonl:2: the line is cut off/],
  ["no JSON", `${row()}\n{"question" "SECRET"}\n`, /a\.jsonl:2: the line is not JSON \(character 13\)/],
  ["a NUL", `${row()}\n\0\n`, /a\.jsonl:2: the line is not JSON/],
  ["no object", `${row()}\n[1]\n`, /a\.jsonl:2: the line is JSON, but not an object/],
  ["a missing field", `${row()}\n{"question":"Q","cot":"SECRET"}\n`, /a\.jsonl:2: it has no "answer"/],
  ["an empty field", `${row()}\n${row({ cot: " " })}\n`, /a\.jsonl:2: "cot" is empty/],
  ["a field of another type", `${row()}\n${row({ cot: ["SECRET"] })}\n`, /a\.jsonl:2: "cot" is an array, not text/],
  ["null", `${row()}\n${row({ answer: null })}\n`, /a\.jsonl:2: "answer" is null, not text/],
  [
    "half a surrogate pair",
    `${row()}\n${row().replace("Q?", "\\ud800")}\n`,
    /a\.jsonl:2: "question" has half a surrogate/,
  ],
  [
    "a number beyond 2^53",
    `${row()}\n${row().replace('"7"', "9007199254740993")}\n`,
    /a\.jsonl:2: "answer" is a number above 2\^53/,
  ],
  ["an id given twice", `${row({ id: 5 })}\n${row({ id: 5 })}\n`, /a\.jsonl:2: its id 5 is that of a\.jsonl:1/],
])("%s: the line is named, the row is not shown, and skip leaves it out", async ([, text, expected]) => {
  const said = await message("a.jsonl", text);
  expect(said).toMatch(expected);
  expect(said).toMatch(/1 of 2 rows cannot be used/);
  expect(said).not.toContain("SECRET");
  const { samples, bad } = await read("a.jsonl", text, { onBadRow: "skip" });
  expect([samples.length, bad.length]).toEqual([1, 1]);
});

test("a line that is not UTF-8, and one of 17 MiB, are bad rows; memory stays small", async () => {
  const bytes = Buffer.concat([Buffer.from(`${row()}\n"`), Buffer.from([0xff]), Buffer.from('"\n')]);
  expect(await message("a.jsonl", bytes)).toMatch(/a\.jsonl:2: the line is not UTF-8/);
  expect(await message("a.jsonl", `${"x".repeat(17 * 2 ** 20)}\n${row()}`)).toMatch(
    /a\.jsonl:1: the line is longer than 16 MiB/,
  );
});

test("numbers are taken as answers; blank lines, CRLF and a byte-order mark do no harm", async () => {
  const { samples } = await read("a.jsonl", `\uFEFF${row({ answer: 12.5 })}\r\n\r\n  \n${row({ cot: "a\r\nb" })}`);
  expect(samples.map(({ answer, cot }) => [answer, cot])).toEqual([
    ["12.5", "A\nB"],
    ["7", "a\nb"],
  ]);
});

test("fields named __proto__ are fields", async () => {
  const { samples } = await read("a.jsonl", `{"__proto__":{"question":"X"},${row().slice(1)}`);
  expect(samples[0]?.question).toBe("Q?");
  expect(({} as { question?: string }).question).toBeUndefined();
});

test("what is no dataset at all is said in a line", async () => {
  expect(await message("a.jsonl", "")).toMatch(/it has no rows/);
  expect(await message("a.jsonl", gzipSync("x"))).toMatch(/compressed with gzip: unpack it first/);
  expect(await message("a.json", '{"a": 1}')).toMatch(/holds no array of rows/);
  expect(await message("a.json", '[{"a" 1}]')).toMatch(/is not JSON at character 7/);
  expect(await message("a.bin", "x")).toMatch(/rows are read from \.jsonl, .*, not from "\.bin"/);
  expect(await message("a.parquet", "PAR1 nonsense PAR1")).toMatch(/a\.parquet/);
  expect(await message("a.jsonl", '{"prompt":"p","completion":"c"}')).toMatch(
    /it has the fields prompt, completion\. Known are:\n  Render/,
  );
  await mkdir(join(folder, "b.jsonl"));
  await expect(readDataset(join(folder, "b.jsonl"))).rejects.toThrow("is a folder");
  await expect(readDataset(join(folder, "none.jsonl"))).rejects.toThrow("there is no such file");
});

test("all bad rows are counted, the first ten listed", async () => {
  const said = await message("a.jsonl", "{}\n".repeat(5) + "x\n".repeat(20) + row());
  expect(said).toMatch(/in no known format/);
  const rest = await message("a.jsonl", `${row()}\n${"x\n".repeat(20)}`);
  expect(rest).toMatch(/20 of 21 rows/);
  expect(rest).toMatch(/and 10 more$/);
  expect(await message("a.jsonl", "x\ny\n", { onBadRow: "skip" })).toMatch(/none of its 2 rows can be used/);
});

test("a limit ends the reading early", async () => {
  expect((await read("a.jsonl", `${`${row()}\n`.repeat(100)}broken`, { limit: 3 })).samples).toHaveLength(3);
});

test.runIf(process.platform === "linux")("a file is closed, however little of it was wanted", async () => {
  const count = 100_000; // more than is buffered on the way
  const path = join(folder, "a.csv");
  await writeFile(path, `question,cot,answer\n${"Q,C,A\n".repeat(count)}`);
  expect((await readDataset(path, { limit: 3 })).samples).toHaveLength(3);
  const open = await Promise.all(
    (await readdir("/proc/self/fd")).map((descriptor) => readlink(`/proc/self/fd/${descriptor}`).catch(() => "")),
  );
  expect(open).not.toContain(path);
});

test("JSON that no string could hold is refused before it is read", async () => {
  const path = join(folder, "a.json");
  await writeFile(path, "[");
  await truncate(path, constants.MAX_STRING_LENGTH + 1); // a hole: it takes no room on the disk
  await expect(readDataset(path)).rejects.toThrow("so much JSON is read as .jsonl only");
});

test.for([
  "",
  "question=q",
  "question=q,cot=c,answer=a,question=z",
  "question=q,cot=c,answer=",
  "x=1,question=q,cot=c,answer=a",
])("the map %j is refused", (argument) => {
  expect(() => parseMap(argument)).toThrow(RowError);
});
