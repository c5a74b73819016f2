import { describe, expect, it } from "vitest";
import { parseOneLineSources, parseStanzaSources, printSources, releaseSources } from "./apt-sources.ts";

const bookworm = { id: "debian", codename: "bookworm" };

describe("sources of one line each", () => {
  it("are read with their options", () => {
    const text = [
      "# deb http://old.example/debian bookworm main",
      "deb [arch=amd64,i386 signed-by=/k/debian-archive-keyring.gpg check-valid-until=no] http://m.example/debian bookworm main contrib # why",
      "deb-src http://m.example/debian bookworm main",
      "  deb http://m.example/debian bookworm-updates main",
      "deb",
      "",
    ].join("\n");
    expect(parseOneLineSources(text)).toEqual([
      {
        uris: ["http://m.example/debian"],
        suites: ["bookworm"],
        components: ["main", "contrib"],
        signedBy: "/k/debian-archive-keyring.gpg",
        checkValidUntil: "no",
      },
      {
        uris: ["http://m.example/debian"],
        suites: ["bookworm-updates"],
        components: ["main"],
        signedBy: undefined,
        checkValidUntil: undefined,
      },
    ]);
  });
});

describe("sources in stanzas", () => {
  const key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----";
  const text = [
    "Types: deb deb-src",
    "# a comment inside",
    "URIs: http://m.example/debian",
    "  http://n.example/debian",
    "Suites: bookworm bookworm-updates",
    "Components: main",
    "Signed-By:",
    ` ${key}`,
    "",
    "Types: deb-src",
    "URIs: http://s.example/debian",
    "Suites: bookworm",
    "Components: main",
    "",
    "types: deb",
    "uris: http://off.example/debian",
    "suites: bookworm",
    "components: main",
    "enabled: no",
  ].join("\r\n");

  it("are read with values over several lines, without those that are off", () => {
    const [source, ...others] = parseStanzaSources(text);
    expect(others).toEqual([]);
    expect(source?.uris).toEqual(["http://m.example/debian", "http://n.example/debian"]);
    expect(source?.suites).toEqual(["bookworm", "bookworm-updates"]);
    expect(source?.signedBy).toBe(`\n ${key}`);
  });

  it("read as they were printed", () => {
    const sources = parseStanzaSources(text);
    expect(parseStanzaSources(printSources(sources, "amd64"))).toEqual(sources);
  });
});

describe("releaseSources", () => {
  const source = { uris: ["http://m.example/debian"], suites: ["bookworm"], components: ["main"] };

  it("adds the backports of the release, and only where the release is", () => {
    const suites = (each: string[]) => releaseSources([{ ...source, suites: each }], bookworm)[0]?.suites;
    expect(suites(["bookworm", "bookworm-updates"])).toEqual(["bookworm", "bookworm-updates", "bookworm-backports"]);
    expect(suites(["bookworm-backports", "bookworm"])).toEqual(["bookworm-backports", "bookworm"]);
    expect(suites(["bookworm-security"])).toEqual(["bookworm-security"]);
  });

  it("leaves out other archives, other releases, and discs", () => {
    const others = [
      { ...source, suites: ["trixie"] },
      { ...source, suites: ["cloud-sdk-bookworm"] },
      { ...source, components: ["stable"] },
      { ...source, uris: ["cdrom:[Debian]/"] },
      { ...source, signedBy: "/usr/share/keyrings/hashicorp-archive-keyring.gpg" },
    ];
    expect(releaseSources(others, bookworm)).toEqual([]);
  });

  it("never passes on that a source is trusted without a signature", () => {
    const trusted = parseOneLineSources("deb [trusted=yes] http://m.example/debian bookworm main");
    expect(printSources(releaseSources(trusted, bookworm), "amd64")).not.toMatch(/trusted/i);
  });
});
