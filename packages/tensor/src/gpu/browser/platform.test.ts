import { afterEach, describe, expect, it, vi } from "vitest";
import { DeviceError } from "../../errors.ts";
import { platform } from "./platform.ts";

afterEach(() => vi.unstubAllGlobals());

function browser(info: Partial<GPUAdapterInfo> | null) {
  const options: unknown[] = [];
  const requestAdapter = (wanted: unknown) => {
    options.push(wanted);
    return Promise.resolve(info && { info });
  };
  vi.stubGlobal("navigator", { gpu: { requestAdapter } });
  return options;
}

const request = async (adapter?: string) => {
  const lines: string[] = [];
  const { kind } = await platform.requestAdapter({ adapter, notice: (line) => lines.push(line) });
  return { kind, lines };
};

describe("in a browser", () => {
  it("the adapter is the one it offers, said in one line", async () => {
    browser({ vendor: "nvidia", architecture: "hopper", device: "", description: "" });
    expect(await request()).toEqual({ kind: "hardware", lines: ["adapter: nvidia hopper, hardware"] });
    expect((await request("NVIDIA")).kind).toBe("hardware");
    await expect(request("amd")).rejects.toThrow('"amd" was asked for, but the browser offers nvidia hopper, hardware');
  });

  it("software is the fallback adapter", async () => {
    const options = browser({ vendor: "google", architecture: "swiftshader", device: "", description: "" });
    expect((await request("embedded")).kind).toBe("software");
    expect(options).toEqual([{ forceFallbackAdapter: true }]);
    await expect(request("hardware")).rejects.toThrow(DeviceError);
  });

  it("its lack is an error that says why", async () => {
    vi.stubGlobal("navigator", {});
    await expect(request()).rejects.toThrow("this browser has no navigator.gpu");
    vi.stubGlobal("isSecureContext", false);
    await expect(request()).rejects.toThrow("not a secure context");
    browser(null);
    await expect(request()).rejects.toThrow("the browser offers none");
  });
});
