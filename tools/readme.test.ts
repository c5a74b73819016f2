/** The code in the documents runs: TypeScript blocks as programs, `npx rot-cli` lines as commands, paths as files. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { globSync } from "tinyglobby";
import { afterAll, expect, test } from "vitest";

const root = resolve(import.meta.dirname, "..");
const documents = globSync(["*.md", "packages/*/README.md"], { cwd: root });

interface Block {
  readonly file: string;
  readonly line: number;
  readonly language: string;
  readonly code: string;
  /** The `text` block that follows at once: what the code prints. */
  readonly prints: string | undefined;
}

function blocks(file: string): Block[] {
  const text = readFileSync(join(root, file), "utf8");
  const pattern = /^```(\w+)\n([\s\S]*?)^```\n(?:\n?^```text\n([\s\S]*?)^```$)?/gm;
  return [...text.matchAll(pattern)].map((match) => ({
    file,
    line: text.slice(0, match.index).split("\n").length,
    language: match[1] as string,
    code: match[2] as string,
    prints: match[3],
  }));
}

const all = documents.flatMap(blocks);
// Inside the repository, so that the packages resolve as they do for its users.
const folder = mkdtempSync(join(root, "node_modules", ".readme-"));
afterAll(() => rmSync(folder, { recursive: true }));

const programs = all.filter(({ language }) => language === "ts");

test("the documents hold code to run", () => expect(programs.length).toBeGreaterThan(2));

test.for(programs.map((block) => [`${block.file}:${block.line}`, block] as const))("%s runs", ([, block]) => {
  const file = join(folder, `${block.file.replaceAll(/\W/g, "-")}-${block.line}.mts`);
  writeFileSync(file, block.code);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["--conditions=@rot/source", "--import", "tsx", file],
    {
      cwd: root,
      encoding: "utf8",
      timeout: 120_000,
    },
  );
  expect(status, stderr).toBe(0);
  if (block.prints !== undefined) expectAlike(stdout, block.prints);
});

/** The same words, and numbers that differ by no more than adapters do in their last digits. */
function expectAlike(got: string, want: string): void {
  const words = (text: string): string[] =>
    text
      .replaceAll(/([[\],])/g, " $1 ")
      .trim()
      .split(/\s+/);
  const [ours, theirs] = [words(got), words(want)];
  expect(ours.length, got).toBe(theirs.length);
  for (const [i, word] of theirs.entries()) {
    const number = Number(word);
    if (Number.isNaN(number)) expect(ours[i], got).toBe(word);
    else expect(Math.abs(Number(ours[i]) - number), got).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(number)));
  }
}

const commands = all
  .filter(({ language }) => language === "bash")
  .flatMap(({ file, line, code }) => code.split("\n").map((text, i) => [`${file}:${line + i + 1}`, text] as const))
  .flatMap(([at, text]) =>
    [...text.matchAll(/npx rot-cli (\w+)|npm run (\w+)|npm (test|ci)/g)].map((match) => [at, match] as const),
  );

test.for(commands)("%s names a command that exists", ([, [text, command, script, builtin]]) => {
  if (command) {
    const main = join(root, "packages/cli/src/main.ts");
    const { status, stderr } = spawnSync(
      process.execPath,
      ["--conditions=@rot/source", "--import", "tsx", main, command, "--help"],
      {
        encoding: "utf8",
      },
    );
    expect(status, `${text}: ${stderr}`).toBe(0);
  } else {
    const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    expect(builtin === "ci" || String(script ?? builtin) in scripts, text).toBe(true);
  }
});

test("every link to a file leads somewhere", () => {
  for (const file of documents) {
    const text = readFileSync(join(root, file), "utf8");
    for (const [, path] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      expect(existsSync(join(root, dirname(file), path as string)), `${file} links to ${path}`).toBe(true);
    }
  }
});
