import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeEach, expect, test } from "vitest";
import { runPiped, spawn } from "../../test/tools/run-cli.ts";

const root = mkdtempSync(join(tmpdir(), "rot-render-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = root;
beforeEach(() => (folder = mkdtempSync(join(root, "case-"))));

const run = (args: readonly string[], stdin = "") => runPiped(stdin, "render", ...args);

const picture = (name: string) => PNG.sync.read(readFileSync(join(folder, name)));

test("a user draws a chain: the paper's width, as a PNG", () => {
  const file = join(folder, "a.png");
  const text = "He sprints 3*3=<<3*3=9>>9 times\nSo he runs 9*60=<<9*60=540>>540 meters.";
  const result = spawn("render", text, "-o", file);
  expect(result).toMatchObject({ status: 0, stderr: "", stdout: `${file}  1300 x 32, 41 latents\n` });
  expect(picture("a.png")).toMatchObject({ width: 1300, height: 32 });
});

test("several lines make numbered pictures, of a file or of standard input", async () => {
  const lines = join(folder, "lines.txt");
  writeFileSync(lines, "one\r\n\r\nthree\n");
  const out = join(folder, "out.png");
  expect(await run(["-i", lines, "-o", out, "--no-thought-markers"])).toMatchObject({ status: 0 });
  expect(readdirSync(folder).toSorted()).toEqual(["lines.txt", "out-1.png", "out-2.png", "out-3.png"]);
  expect(picture("out-2.png").width).toBe(8);
  expect(await run(["-o", join(folder, "in")], "one\n")).toMatchObject({ status: 0 });
  expect(existsSync(join(folder, "in.png"))).toBe(true);
});

test("--json tells what was written; options reach the renderer", async () => {
  const out = join(folder, "a.png");
  const args = [
    "x\u4e2dy",
    "-o",
    out,
    "--json",
    "--engine",
    "basic",
    "--font-size",
    "16",
    "--height",
    "40",
    "--padding",
    "10",
  ];
  const { status, stdout } = await run([
    ...args,
    "--color",
    "#ff0000",
    "--background",
    "ffff00",
    "--no-thought-markers",
  ]);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toEqual([{ file: out, width: 48, height: 40, latents: 4, missing: 1 }]);
  const { data } = picture("a.png");
  expect([...data.subarray(0, 3)]).toEqual([255, 255, 0]);
});

test("--layout square numbers its pages", async () => {
  const out = join(folder, "a.png");
  const args = ["many words ".repeat(20), "-o", out, "--layout", "square", "--square-size", "128"];
  expect(await run(args)).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("a-2.png  128 x 128, 16 latents"),
  });
});

test("files are not replaced but with --force, and nothing is left behind", async () => {
  const out = join(folder, "a.png");
  writeFileSync(out, "mine");
  const refused = await run(["x", "-o", out]);
  expect(refused).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("exists; choose another name or add --force"),
  });
  expect(readFileSync(out, "utf8")).toBe("mine");
  expect(await run(["x", "-o", out, "--force"])).toMatchObject({ status: 0 });
  expect(picture("a.png").height).toBe(32);
  expect(readdirSync(folder)).toEqual(["a.png"]);
});

test("--font draws with another font, and says what is wrong with a bad one", async () => {
  const out = join(folder, "a.png");
  const serif = resolve(import.meta.dirname, "../../../../node_modules/dejavu-fonts-ttf/ttf/DejaVuSerif.ttf");
  expect(await run(["serif", "-o", out, "--font", serif])).toMatchObject({ status: 0 });
  const bad = join(folder, "bad.ttf");
  writeFileSync(bad, "no font");
  expect(await run(["x", "-o", out, "--font", bad])).toMatchObject({
    status: 3,
    stderr: expect.stringContaining("bad.ttf: 7 bytes"),
  });
  expect(await run(["x", "-o", out, "--font", join(folder, "none")])).toMatchObject({
    status: 3,
    stderr: expect.stringContaining("cannot be read"),
  });
});

test.for([
  [["x"], 2, "--output"],
  [["x", "-i", "file", "-o", "y"], 2, "give one of them"],
  [["x", "-o", "y", "--font-size", "big"], 2, "whole number of pixels"],
  [["x", "-o", "y", "--font-size", "0"], 2, "fontSize is 0"],
  [["x", "-o", "y", "--color", "red"], 2, "hexadecimal"],
  [["x", "-o", "y", "--layout", "round"], 2, "single-line"],
  [["-o", "y"], 3, "standard input has no lines"],
  [["-o", "y", "-i", "no such file"], 3, "cannot be read"],
] as const)("%j exits with %i", async ([args, status, message]) => {
  expect(await run(args)).toMatchObject({ status, stderr: expect.stringContaining(message) });
});

test("input that is not UTF-8 is refused", async () => {
  const file = join(folder, "latin1.txt");
  writeFileSync(file, Uint8Array.of(0x63, 0x61, 0x66, 0xe9));
  expect(await run(["-i", file, "-o", join(folder, "a.png")])).toMatchObject({
    status: 3,
    stderr: expect.stringContaining("is not UTF-8"),
  });
});
