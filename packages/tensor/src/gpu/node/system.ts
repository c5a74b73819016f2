/** The adapters that the system itself offers: its GPU, and its software Vulkan. */
import { existsSync } from "node:fs";
import { DeviceError } from "../../errors.ts";
import type { Cache } from "./cache.ts";
import { listAdapters } from "./dawn.ts";
import { embeddedLoader } from "./embedded.ts";
import type { DriverPlaces } from "./environment.ts";
import type { Candidate, Source } from "./source.ts";
import { driverManifests, ensureLoader, hasLoader, withDrivers } from "./vulkan.ts";

/** The system as a place to look for an adapter. */
export function systemSource(cache: Cache, drivers: DriverPlaces): Source {
  return {
    place: "system",
    mayHave: () => true,
    async look() {
      const found = process.platform === "linux" ? await lookOnLinux(cache, drivers) : await listAdapters();
      return found.map((candidate) =>
        candidate.kind === "software" ? { ...candidate, origin: "of the system" } : candidate,
      );
    },
  };
}

/** Asks Dawn only where it can find something: it complains on stderr about a missing loader or driver. */
async function lookOnLinux(cache: Cache, { files, folders, hidden }: DriverPlaces): Promise<Candidate[]> {
  const announced = files ? files.filter((file) => existsSync(file)) : await driverManifests(folders);
  const unannounced = files ? [] : await driverManifests(hidden);
  const loader = await hasLoader();
  const manifests = [...announced, ...unannounced];
  if (manifests.length === 0) return [];
  if (loader && unannounced.length === 0) return listAdapters();
  if (!loader) {
    await ensureLoader(await embeddedLoader(cache)).catch((error: unknown) => {
      throw new DeviceError("there are Vulkan drivers, but no libvulkan.so.1 to load them", { cause: error });
    });
  }
  return listAdapters((action) => withDrivers(manifests, action));
}
