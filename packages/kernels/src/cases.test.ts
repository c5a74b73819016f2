import { globSync } from "tinyglobby";
import { expect, test } from "vitest";
import { kernelCases } from "./cases.ts";

test("every file of cases is listed", () => {
  const files = globSync("*/*.cases.ts", { cwd: import.meta.dirname });
  expect(Object.keys(kernelCases)).toEqual(files.map((file) => file.split("/")[0]).toSorted());
});
