import { defineConfig } from "vitest/config";

/** `@rot/source` makes every package resolve to its TypeScript: tests need no build. */
const conditions = ["@rot/source", "node", "import", "default"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["packages/*/{src,test}/**/*.test.ts", "benchmarks/src/**/*.test.ts", "tools/**/*.test.ts"],
    setupFiles: ["tools/property-seed.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
