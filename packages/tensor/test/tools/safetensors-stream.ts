/** Prints the mutants for `safetensors-verdicts.py`: of each its length in 4 little-endian bytes, then itself. */

import { once } from "node:events";
import { mutants } from "./safetensors-mutants.ts";

for (const file of mutants()) {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(file.length);
  if (!process.stdout.write(Buffer.concat([prefix, file]))) await once(process.stdout, "drain");
}
