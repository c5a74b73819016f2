import { describe, expect, it } from "vitest";
import { UsageError } from "../../errors.ts";
import { readEnvironment } from "./environment.ts";

describe("readEnvironment", () => {
  it("asks for nothing when nothing is set, or set to nothing", () => {
    for (const variables of [
      {},
      { ROT_ADAPTER: "", ROT_NO_DOWNLOAD: " ", ROT_DEBUG: "", ROT_CACHE: "", ROT_TUNE: "" },
    ]) {
      const { adapter, download, debug, cache, tune } = readEnvironment({ HOME: "/home/a", ...variables });
      const nothing = {
        adapter: undefined,
        download: true,
        debug: 0,
        cache: "/home/a/.cache/render-of-thought",
        tune: "cached",
      };
      expect({ adapter, download, debug, cache, tune }).toEqual(nothing);
    }
  });

  it("reads every wish", () => {
    const wishes = readEnvironment({ ROT_ADAPTER: "llvmpipe", ROT_NO_DOWNLOAD: "1", ROT_DEBUG: "4", ROT_CACHE: "/c" });
    expect(wishes).toMatchObject({ adapter: "llvmpipe", download: false, debug: 4, cache: "/c/render-of-thought" });
    expect(readEnvironment({ ROT_TUNE: "full" }).tune).toBe("full");
    expect(() => readEnvironment({ ROT_TUNE: "on" })).toThrow('ROT_TUNE is "on"; it must be off, cached or full');
    expect(readEnvironment({ XDG_CACHE_HOME: "/x" }).cache).toBe("/x/render-of-thought");
  });

  it.for([
    { ROT_DEBUG: "5" },
    { ROT_DEBUG: "-1" },
    { ROT_DEBUG: "1.5" },
    { ROT_DEBUG: "yes" },
    { ROT_NO_DOWNLOAD: "true" },
  ])("refuses %o", (variables) => {
    const [name = ""] = Object.keys(variables);
    expect(() => readEnvironment(variables)).toThrow(UsageError);
    expect(() => readEnvironment(variables)).toThrow(new RegExp(`^${name} is ".*"; it must be 0`));
  });

  it("takes the user's word for where Vulkan drivers are", () => {
    expect(readEnvironment({ VK_DRIVER_FILES: "/a.json:/b.json", VK_ICD_FILENAMES: "/c" }).drivers.files).toEqual([
      "/a.json",
      "/b.json",
    ]);
    expect(readEnvironment({ VK_ICD_FILENAMES: "/c.json" }).drivers.files).toEqual(["/c.json"]);
    expect(readEnvironment({ HOME: "/h" }).drivers.folders).toContain("/usr/share/vulkan/icd.d");
  });
});
