import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadOrder, parseMadison, parseSimulation, PrivateApt } from "./apt.ts";
import { neededLibraries } from "./elf.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rot-apt-test-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("what apt prints", () => {
  it("madison: the versions and the suites that offer them", () => {
    const text = [
      "mesa-vulkan-drivers | 25.0.7-2~bpo12+1 | http://m.example/debian bookworm-backports/main amd64 Packages",
      "mesa-vulkan-drivers | 22.3.6-1+deb12u2 | http://m.example/debian bookworm/main amd64 Packages",
      "      mesa |   22.3.6-1 | http://m.example/debian bookworm/main Sources",
    ].join("\n");
    expect(parseMadison(text)).toEqual([
      { version: "25.0.7-2~bpo12+1", suite: "bookworm-backports" },
      { version: "22.3.6-1+deb12u2", suite: "bookworm" },
    ]);
  });

  it("install -s: the packages of libraries, but for the C and C++ libraries", () => {
    const text = [
      "Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.15/oldstable [amd64])",
      "Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []",
      "Inst libx11-data (2:1.8.4-2+deb12u2 Debian:12.15/oldstable [all])",
      "Inst libllvm15 (1:15.0.6-4+b1 Debian:12.15/oldstable [amd64])",
      "Inst libdrm2 (2.4.123-1~bpo12+1 Debian Backports:oldstable-backports [amd64])",
      "Inst libzstd1 (1.5.5+dfsg2-2build1.1 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble [amd64]) []",
      "Inst -oDir::Bin=evil (1.0 Debian [amd64])",
      "Conf libllvm15 (1:15.0.6-4+b1 Debian:12.15/oldstable [amd64])",
    ].join("\n");
    expect(parseSimulation(text)).toEqual([
      { name: "libllvm15", version: "1:15.0.6-4+b1" },
      { name: "libdrm2", version: "2.4.123-1~bpo12+1" },
      { name: "libzstd1", version: "1.5.5+dfsg2-2build1.1" },
    ]);
  });
});

describe.skipIf(process.platform !== "linux")("libraries", () => {
  it("say what they need", async () => {
    expect(await neededLibraries(process.execPath)).toContain("libc.so.6");
  });

  it("are refused when they are none", async () => {
    const path = join(folder, "libx.so");
    await writeFile(
      path,
      "not a library, but longer than a header of one; so that it is read to the end of the header",
    );
    await expect(neededLibraries(path)).rejects.toThrow("is not a 64-bit ELF library");
    await writeFile(path, Buffer.from("\x7fELF\x02\x01", "latin1"));
    await expect(neededLibraries(path)).rejects.toThrow("ends at byte 6");
  });

  it("are ordered after what they need", async () => {
    const libraries = new Map([
      ["root", process.execPath],
      ["libc.so.6", process.execPath],
    ]);
    expect(await loadOrder(["root"], libraries)).toEqual(["libc.so.6", "root"]);
    await expect(loadOrder(["libvulkan_lvp.so"], libraries)).rejects.toThrow("do not hold libvulkan_lvp.so");
  });
});

describe.skipIf(!existsSync("/usr/bin/apt-get"))("apt", () => {
  const release = { id: "debian", codename: "bookworm", architecture: "amd64" };

  it("is stopped in time when an archive does not answer", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const silent = { uris: [`http://127.0.0.1:${port}/debian`], suites: ["bookworm"], components: ["main"] };
    const start = performance.now();
    const apt = new PrivateApt(folder, release, AbortSignal.timeout(1500));
    await expect(apt.resolve([silent])).rejects.toThrow();
    expect(performance.now() - start).toBeLessThan(6000);
    server.close();
  });

  it("says when the system has no archive of its release", async () => {
    const apt = new PrivateApt(folder, release, AbortSignal.timeout(2000));
    await expect(apt.resolve([])).rejects.toThrow("apt's sources name no archive of bookworm");
  });
});
