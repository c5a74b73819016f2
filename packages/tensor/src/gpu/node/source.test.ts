import { describe, expect, it } from "vitest";
import { DeviceError } from "../../errors.ts";
import type { AdapterKind } from "../adapter.ts";
import { kindOf, namesInRefusal } from "./dawn.ts";
import { chooseAdapter, type Source } from "./source.ts";

interface Fake {
  names?: string[];
  why?: string;
  broken?: boolean;
  may?: (part: string) => boolean;
  kind?: AdapterKind;
}

/** Sources that answer as told, and the places asked, in order. */
function fakes(told: { system?: Fake; fetched?: Fake; embedded?: Fake }) {
  const asked: string[] = [];
  const source = (place: string, { names = [], why, broken = false, may, kind }: Fake = {}): Source => ({
    place,
    mayHave: may ?? (() => true),
    look(insist) {
      asked.push(insist ? `${place}!` : place);
      if (why !== undefined) return Promise.reject(new DeviceError(why));
      const open = () =>
        broken ? Promise.reject(new Error("no room")) : Promise.resolve({ gpu: {}, adapter: {} } as never);
      return Promise.resolve(names.map((name) => ({ name, kind: kind ?? kindOf(name), origin: place, open })));
    },
  });
  const sources = {
    system: source("system", told.system),
    fetched: source("fetched", told.fetched),
    embedded: source("embedded", { kind: "embedded", ...told.embedded }),
  };
  return { asked, choose: (wish?: string) => chooseAdapter(wish, sources) };
}

const llvmpipe = "llvmpipe (LLVM 15.0.6, 256 bits)";
const swiftshader = "SwiftShader Device (Subzero)";
const all = {
  system: { names: [llvmpipe, "NVIDIA H200"] },
  fetched: { names: [llvmpipe] },
  embedded: { names: [swiftshader] },
};

describe("without a wish", () => {
  it("hardware comes first, and nothing else is looked at", async () => {
    const { asked, choose } = fakes(all);
    const { found, notice } = await choose();
    expect(found.kind).toBe("hardware");
    expect(notice).toBe("adapter: NVIDIA H200, hardware, system");
    expect(asked).toEqual(["system"]);
  });

  it("then the system's software, asked only once", async () => {
    const { asked, choose } = fakes({ ...all, system: { names: [llvmpipe] } });
    expect((await choose()).notice).toBe(`adapter: ${llvmpipe}, software, system; no GPU was found`);
    expect(asked).toEqual(["system"]);
  });

  it("then the fetched", async () => {
    const { choose } = fakes({ ...all, system: {} });
    expect((await choose()).notice).toBe(`adapter: ${llvmpipe}, software, fetched; no GPU was found`);
  });

  it("then the embedded, with the reason in the same line", async () => {
    const { asked, choose } = fakes({ ...all, system: {}, fetched: { why: "no network\nand more" } });
    const { found, notice } = await choose();
    expect(found.kind).toBe("embedded");
    expect(notice).toBe(`adapter: ${swiftshader}, embedded, embedded; no GPU was found; fetched: no network`);
    expect(asked).toEqual(["system", "fetched", "embedded"]);
  });

  it("an adapter that does not open is passed over", async () => {
    const { choose } = fakes({ ...all, system: { names: ["NVIDIA H200"], broken: true } });
    expect((await choose()).notice).toContain("NVIDIA H200 did not open: no room");
  });

  it("nothing at all is an error that names everything tried", async () => {
    const { choose } = fakes({ fetched: { why: "offline" }, embedded: { why: "not installed" } });
    await expect(choose()).rejects.toThrow(DeviceError);
    await expect(choose()).rejects.toThrow(
      /^no adapter was found\. .* Tried: fetched: offline; embedded: not installed\.$/,
    );
  });
});

describe("with a wish", () => {
  it.for([
    ["hardware", "NVIDIA H200", ["system!"]],
    ["software", llvmpipe, ["system!"]],
    [" Embedded ", swiftshader, ["embedded!"]],
    ["h200", "NVIDIA H200", ["system!"]],
    ["LLVM", llvmpipe, ["system!"]],
    ["lavapipe", llvmpipe, ["system!"]],
    ["subzero", swiftshader, ["system!", "fetched!", "embedded!"]],
  ] as const)("%s is %s", async ([wish, name, places]) => {
    const { asked, choose } = fakes(all);
    expect((await choose(wish)).notice).toMatch(`adapter: ${name}, `);
    expect(asked).toEqual(places);
  });

  it("nothing is fetched for a name that it cannot have", async () => {
    const { asked, choose } = fakes({ ...all, fetched: { may: () => false } });
    await choose("subzero");
    expect(asked).toEqual(["system!", "embedded!"]);
  });

  it("there is no second best", async () => {
    const { choose } = fakes({ ...all, system: { names: [llvmpipe] } });
    await expect(choose("hardware")).rejects.toThrow(/^no GPU was found\. .* Seen: llvmpipe/);
    await expect(choose("radeon")).rejects.toThrow(`no adapter has "radeon" in its name.`);
    await expect(choose("radeon")).rejects.toThrow(`Seen: ${llvmpipe}, ${llvmpipe}, ${swiftshader}.`);
    await expect(fakes({}).choose("software")).rejects.toThrow("mesa-vulkan-drivers");
  });
});

it("the names are read out of Dawn's refusal, once each, without its null backend", () => {
  const message = [
    "no suitable backends found",
    "Available adapters:",
    ` * backend: 'vulkan', name: '${swiftshader}'`,
    " * backend: 'd3d12', name: 'Bob's GPU'",
    " * backend: 'd3d11', name: 'Bob's GPU'",
    " * backend: 'null', name: 'Null backend'",
  ].join("\n");
  expect(namesInRefusal(message)).toEqual([swiftshader, "Bob's GPU"]);
  expect(["Microsoft Basic Render Driver", llvmpipe, swiftshader].map(kindOf)).toEqual(Array(3).fill("software"));
});
