/** What a platform (Node or a browser) offers: a way to an adapter, and the user's wishes about it. */

import type { TuneMode, TuningStore } from "./tunings.ts";

export type AdapterKind = "hardware" | "software" | "embedded";

export interface AdapterRequest {
  /**
   * Part of the adapter's name, in any case, or one of `hardware`, `software` (a system or fetched software Vulkan),
   * `embedded` (SwiftShader out of an npm package). Without it: hardware, then software, then embedded.
   */
  readonly adapter?: string | undefined;
  /** Whether a missing software adapter may be downloaded. */
  readonly download?: boolean | undefined;
  /** Receives one line that says which adapter serves and why. */
  readonly notice: (line: string) => void;
}

export interface FoundAdapter {
  /** Kept with the device: Dawn's promises never settle once the object that made them is collected. */
  readonly gpu: GPU;
  readonly adapter: GPUAdapter;
  readonly kind: AdapterKind;
}

export interface Platform {
  /** @throws {DeviceError} that says what was tried and what would mend it */
  requestAdapter(request: AdapterRequest): Promise<FoundAdapter>;
  /** What the user asked for outside the program: `ROT_ADAPTER`, `ROT_NO_DOWNLOAD`, `ROT_DEBUG`, `ROT_TUNE`. */
  readonly wishes: {
    readonly adapter?: string | undefined;
    readonly download: boolean;
    readonly debug: number;
    readonly tune: TuneMode;
  };
  /** Where the tuner's choices are stored; null where nothing can be. */
  readonly tunings: TuningStore | null;
  /** Called when somebody begins to wait for a software adapter; what it returns is called at the end of the wait. */
  rest(): () => void;
  /** Frees what dead objects of a software adapter hold. Browsers do so by themselves. */
  collectGarbage(): void;
  /** Writes one line for the user to see: stderr in Node, the console in a browser. */
  notice(line: string): void;
}
