import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import { canHold, startPeer } from "./peer-process.ts";

/** A peer written on the command line: `answer` is a function from a request to what it says. */
const start = (answer: string, before = "") =>
  startPeer(
    "fake",
    "cpu",
    [
      process.execPath,
      "-e",
      `${before}
       const say = (what) => require("node:fs").writeSync(3, JSON.stringify(what) + "\\n");
       say({ version: "1.0" });
       console.log("a library prints this");
       require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => say((${answer})(JSON.parse(line))));`,
    ],
    { folder: process.cwd(), env: { FAKE: "7" } },
  );

test("a peer prepares and times, whatever its libraries print", async () => {
  const peer = await start(
    `({ do: action, work, sizes, repeats }) => action === "prepare"
       ? { fingerprint: work === "matmul" ? [sizes.n, Number(process.env.FAKE)] : null } : { milliseconds: 2 * repeats }`,
  );
  expect(peer.version).toBe("1.0");
  expect(await peer.prepare({ name: "matmul", sizes: { n: 5 } })).toEqual([5, 7]);
  expect(await peer.prepare({ name: "attention", sizes: {} })).toBeNull();
  expect(await peer.time(4)).toBe(8);
  peer.stop();
});

test.runIf(canHold)("a peer does nothing while the others have their turn", async () => {
  const peer = await start(`() => ({ milliseconds: ticks })`, "let ticks = 0; setInterval(() => ticks++, 5);");
  const before = await peer.time(1);
  await setTimeout(1000);
  expect((await peer.time(1)) - before).toBeLessThan(20);
  peer.stop();
});

test("what a peer cannot do is an error with its words, and it goes on", async () => {
  const peer = await start(`({ do: action }) => action === "time" ? { milliseconds: -1 } : { error: "out of memory" }`);
  await expect(peer.prepare({ name: "add", sizes: {} })).rejects.toThrow("out of memory");
  await expect(peer.time(1)).rejects.toThrow("it answered -1 instead of milliseconds");
  peer.stop();
});

test("a peer that dies says why, and every later question is answered so", async () => {
  const peer = await start(`() => { console.error("Error: no adapter"); process.exit(3); }`);
  await expect(peer.time(1)).rejects.toThrow("it ended with 3: Error: no adapter");
  await expect(peer.time(1)).rejects.toThrow("it ended with 3");
  await expect(start("() => {}", "throw new Error('cannot start');")).rejects.toThrow("cannot start");
});
