/** The base of the tiny model that comes with this package. */
import { fileURLToPath } from "node:url";
import type { Pretrained } from "@rot/models";
import { fromPretrained } from "@rot/models/node";
import type { Device } from "@rot/tensor";

/** Its folder, as any other model's. `make-base.ts` has made it. */
export const shippedBase = fileURLToPath(new URL("../../../assets/tiny/", import.meta.url));

/** The folder of a model: `tiny` means the one that comes with this package. */
export const modelFolder = (name: string): string => (name === "tiny" ? shippedBase : name);

/** Opens it. */
export const openShippedBase = (device: Device): Promise<Pretrained> =>
  fromPretrained(shippedBase, device, { dtype: "f32" });
