/**
 * All property tests begin from one seed, so that what fails fails again. `ROT_PROPERTY_SEED=N` looks elsewhere.
 */
import fc from "fast-check";

const { ROT_PROPERTY_SEED: given } = process.env;
if (given !== undefined && !/^-?\d+$/.test(given))
  throw new Error(`ROT_PROPERTY_SEED must be a whole number: "${given}"`);
fc.configureGlobal({ seed: Number(given ?? 20261121) });
