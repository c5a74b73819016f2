import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { shippedBase } from "./shipped.ts";

test("the base in the package is small, and the one whose making is described beside it", async () => {
  const file = join(shippedBase, "model.safetensors");
  const readme = await readFile(join(shippedBase, "..", "README.md"), "utf8");
  const sha256 = createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
  expect(readme).toContain(`\`${sha256}\``);
  expect((await stat(file)).size).toBeLessThan(1e6);
});
