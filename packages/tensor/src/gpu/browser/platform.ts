/** WebGPU as a browser offers it. */
import { DeviceError } from "../../errors.ts";
import type { AdapterKind, AdapterRequest, FoundAdapter, Platform } from "../adapter.ts";

/** What this file uses of a page's or a worker's global scope. */
interface Scope {
  readonly navigator?: { readonly gpu?: GPU };
  readonly isSecureContext?: boolean;
  readonly console: { info(line: string): void };
}

const scope = globalThis as unknown as Scope;

/** The browser: it has one adapter to give, and no environment to read wishes from. */
export const platform: Platform = {
  wishes: { download: false, debug: 0, tune: "cached" },
  tunings: null,
  notice: (line) => scope.console.info(line),
  rest: () => () => {},
  collectGarbage: () => {},
  requestAdapter,
};

async function requestAdapter({ adapter: wish, notice }: AdapterRequest): Promise<FoundAdapter> {
  const gpu = scope.navigator?.gpu;
  if (!gpu) {
    throw new DeviceError(
      scope.isSecureContext === false
        ? "no WebGPU: this page is not a secure context; serve it over https or from localhost"
        : "no WebGPU: this browser has no navigator.gpu",
    );
  }
  const asked = wish?.trim().toLowerCase() || undefined;
  const software = asked === "software" || asked === "embedded";
  const adapter = await gpu.requestAdapter(
    software ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  if (!adapter) throw new DeviceError(`no WebGPU adapter: the browser offers ${software ? "no software one" : "none"}`);
  const name = nameOf(adapter);
  const kind = kindOf(adapter, name);
  // A page cannot choose by name; it can only check what the browser chose.
  const fits = asked === undefined || software || asked === kind || name.toLowerCase().includes(asked);
  if (!fits) throw new DeviceError(`"${wish}" was asked for, but the browser offers ${name}, ${kind}`);
  notice(`adapter: ${name}, ${kind}`);
  return { gpu, adapter, kind };
}

function nameOf({ info }: GPUAdapter): string {
  return info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(" ") || "unnamed";
}

function kindOf({ info }: GPUAdapter, name: string): AdapterKind {
  const software = info.isFallbackAdapter || /llvmpipe|swiftshader|basic render/i.test(`${name} ${info.architecture}`);
  return software ? "software" : "hardware";
}
