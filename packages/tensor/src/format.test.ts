import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { DType } from "./dtype.ts";
import { format } from "./format.ts";
import { print } from "./shape.ts";

interface Case {
  readonly shape: number[];
  readonly dtype: DType;
  readonly values: (number | boolean | "inf" | "-inf" | null)[];
  readonly text: string;
}

/** Printed by NumPy 2 (`test/data/numpy-text.json`): JSON has no NaN and no infinity, so they are null and strings there. */
const cases = JSON.parse(
  readFileSync(new URL("../test/data/numpy-text.json", import.meta.url), "utf8"),
) as readonly Case[];

const value = (v: Case["values"][number]): number =>
  v === null
    ? Number.NaN
    : v === "inf"
      ? Number.POSITIVE_INFINITY
      : v === "-inf"
        ? Number.NEGATIVE_INFINITY
        : Number(v);

test.for(cases.map((one) => [`${print(one.shape)} ${one.dtype} ${one.text.slice(0, 30)}`, one] as const))(
  "%s is printed as NumPy prints it",
  ([, { shape, dtype, values, text }]) => {
    expect(format(values.map(value), shape, dtype)).toBe(text);
  },
);
