/** The ways to make a product: which there are, which one suits a device and a problem, and what the tuner may try. */
import type { Device } from "../gpu/device.ts";
import { hashOf, type KnobValues } from "../gpu/tunings.ts";
import type { Kernel } from "../kernel.ts";
import { powerOfFour, tunedSetting } from "../knobs.ts";
import { size } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { endingKey } from "./matmul-ending.wgsl.ts";
import { hasMatrices, matrices } from "./matmul-matrix.wgsl.ts";
import { pack, panels } from "./matmul-packed.wgsl.ts";
import { canPack, packs } from "./matmul-panels.ts";
import { isVectorUnit, type Plan, tensorsOf } from "./matmul-plan.ts";
import { servesVector, vector } from "./matmul-vector.wgsl.ts";
import { coverage, type Layout, plain, type Tile, tiles } from "./matmul.wgsl.ts";

/**
 * How a product is made:
 *
 * - `plain`: an invocation an element, for small ones
 * - `tile`: a block of elements in the registers of each invocation
 * - `packed`: both operands are packed into panels first
 * - `split`: k in parts, as a batch of products that are added up
 * - `vector`: for one or two rows on CPU adapters
 * - `matrices`: on tensor cores, where the device has them
 */
export type ProductSetting = Readonly<
  | { kernel: "plain" }
  | { kernel: "packed" }
  | { kernel: "split" }
  | ({ kernel: "tile" } & Tile)
  | { kernel: "vector"; rows: 1 | 2 }
  | { kernel: "matrices"; blocks: 2 | 4 }
>;

const tile = <A extends Tile["arrangement"]>(arrangement: A, rows: readonly Tile["rows"][]): ProductSetting[] =>
  rows.map((each) => ({ kernel: "tile", arrangement, rows: each }));

const settings: readonly ProductSetting[] = [
  { kernel: "plain" },
  { kernel: "packed" },
  { kernel: "split" },
  ...tile("shared", [16, 8, 4, 1, 32]),
  ...tile("block", [8, 16, 4]),
  ...tile("columns", [4, 1]),
  ...tile("dots", [4, 1]),
  { kernel: "vector", rows: 1 },
  { kernel: "vector", rows: 2 },
  { kernel: "matrices", blocks: 2 },
  { kernel: "matrices", blocks: 4 },
];

function runsOn(device: Device, setting: ProductSetting): boolean {
  if (setting.kernel === "packed" || setting.kernel === "vector") return isVectorUnit(device);
  if (setting.kernel === "matrices") return hasMatrices(device, setting.blocks);
  return setting.kernel !== "tile" || setting.arrangement !== "shared" || device.subgroupSize >= 4;
}

/** Whether a way leads to the product at all. */
function serves(plan: Plan, setting: ProductSetting): boolean {
  if (!runsOn(plan.a.device, setting)) return false;
  if (setting.kernel === "packed") return canPack(plan);
  if (setting.kernel === "vector") return servesVector(plan);
  if (setting.kernel === "matrices") return !plan.windowed;
  return setting.kernel !== "split" || partsOf(plan) > 1;
}

/** Up to so many products of two numbers the plain kernel serves. */
const SMALL = 2 ** 16;

/** The way that suits an adapter and a problem where nothing was measured. */
function preferred(plan: Plan): ProductSetting {
  const { a, batch, transposes, m, n, k, wide, windowed } = plan;
  if (packs(plan)) return { kernel: "packed" };
  if (partsOf(plan) > 1 && wishedParts(plan) >= 2) return { kernel: "split" };
  const isSmall = size(batch) * m * n * k <= SMALL;
  if (!isSmall && servesVector(plan)) return { kernel: "vector", rows: m === 1 ? 1 : 2 };
  const onCores = { kernel: "matrices", blocks: 2 } as const;
  if (a.device.arithmetic === "f16" && m > 16 && !isSmall && serves(plan, onCores)) return onCores;
  if (isSmall || (windowed && !(wide.a && wide.b && wide.y))) return { kernel: "plain" };
  return { kernel: "tile", ...preferredTile(a.device, windowed ? Math.min(m, 4) : m, transposes.transposeB) };
}

/** The tile that suits an adapter and a height; the rest of the shape matters less. */
function preferredTile(device: Device, m: number, transposeB: boolean): Tile {
  if (isVectorUnit(device)) {
    const most = m > 16 && device.subgroupSize >= 8 ? 32 : 16; // measured on lavapipe; on four lanes it was not
    return { rows: m > 8 ? most : m > 4 ? 8 : m > 1 ? 4 : 1, arrangement: "shared" };
  }
  if (m > 4) return { rows: 8, arrangement: "block" };
  return { rows: m > 1 ? 4 : 1, arrangement: transposeB ? "dots" : "columns" };
}

/** Workgroups of a tile that keep a device busy, and steps of k that are worth a second round. */
const BUSY = { hardware: 256, software: 8 } as const;
const LEAST_STEPS = 1024;

/** Into how many parts k should be cut where the result is too small to keep the device busy. */
function wishedParts({ a: { device }, m, n, k }: Plan): number {
  const [columns, rows] = coverage(preferredTile(device, m, false));
  const groups = Math.ceil(n / columns) * Math.ceil(m / rows);
  return Math.floor(Math.min((device.kind === "hardware" ? BUSY.hardware : BUSY.software) / groups, k / LEAST_STEPS));
}

/**
 * Into how many parts k can be cut, as wished but two at least; 1 where it cannot. Only where both operands lie k first, as
 * they do in the gradient of a weight, for there a part is one matrix of a batch.
 */
export function partsOf(plan: Plan): number {
  const { transposes, batch, ending, k } = plan;
  if (batch.length > 0 || !transposes.transposeA || transposes.transposeB || endingKey(ending) !== NO_ENDING) return 1;
  for (let parts = Math.max(2, wishedParts(plan)); parts > 1; parts--) if (k % parts === 0) return parts;
  return 1;
}

const NO_ENDING = endingKey({});

/** Whether a way is worth a measurement: some take minutes, or drivers choke on them. */
function isWorthwhile({ batch, windowed, m, n, k, wide }: Plan, setting: ProductSetting): boolean {
  const results = size(batch) * m * n;
  if (setting.kernel === "plain") return results * k <= 2 ** 22 || (windowed && !(wide.a && wide.b && wide.y));
  if (setting.kernel !== "tile") return true;
  if (windowed && (setting.rows > 4 || !(wide.a && wide.b && wide.y))) return false;
  // Element by element sixteen rows are so many loads that lavapipe compiles for minutes.
  if (setting.arrangement === "block" && setting.rows > 8 && !(wide.a && wide.b)) return false;
  // Half of a tile's rows at least are the product's, and lanes that share k are for few results.
  const isNarrow = setting.arrangement === "columns" || setting.arrangement === "dots";
  if (setting.rows === 1 && m > 16) return false; // many times the time of the best
  return setting.rows < 2 * m && (!isNarrow || m <= 16 || results <= 2 ** 14);
}

/** Products share a choice whose lengths lie between the same powers of four, of two where there are few rows. */
function problemOf({ a, b, transposes, dtype, ending, into, batch, m, n, k, wide, windowed }: Plan): string {
  const { bias, residual } = ending;
  const { transposeA, transposeB } = transposes;
  const types = `${a.dtype} ${b.dtype} ${bias?.dtype ?? "-"} ${residual?.dtype ?? "-"} ${dtype}`;
  const how = `${a.device.arithmetic}${into ? " into" : ""}${windowed ? " windowed" : ""} ${endingKey(ending)}`;
  const layout = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"} ${wide.a ? "a" : ""}${wide.b ? "b" : ""}${wide.y ? "y" : ""}${k % 4 === 0 ? "k" : ""}`;
  const rows = m <= 32 ? `≤${2 ** (32 - Math.clz32(m - 1))}` : powerOfFour(m);
  return `${types} ${how} ${layout} ${rows} ${powerOfFour(n)} ${powerOfFour(k)} ${powerOfFour(size(batch))}`;
}

/** Of operands. */
const dtypes = ["f32", "f16", "bf16"] as const;

const sources = new WeakMap<Device, string>();

/**
 * Changes with the WGSL of any way. Not of all layouts and settings, which would take a second to print: each operand is
 * met both ways round, as whole vectors and not, in low tiles.
 */
function sourceOn(device: Device): string {
  let source = sources.get(device);
  if (source === undefined) {
    const half = device.arithmetic === "f16";
    const both = [true, false];
    const layouts = both.flatMap((transposeA) =>
      both.map((transposeB): Layout => {
        const wide = transposeA === transposeB;
        return { transposeA, transposeB, wideA: wide, wideB: wide, wideY: wide, ragged: !wide, half };
      }),
    );
    const some = settings.filter((one) => one.kernel === "tile" && (one.rows === 4 || one.rows === 1));
    const low = some.filter((one) => runsOn(device, one)) as readonly Tile[];
    const packings = both.flatMap((isKFirst) =>
      both.flatMap((wide) => [pack({ operand: "a", isKFirst, wide }), pack({ operand: "b", isKFirst, wide })]),
    );
    const onVectors = [
      ...packings,
      ...both.map((wide) => panels({}, wide, false)),
      ...dtypes.map((dtype) => vector(dtype, {})),
    ];
    sources.set(
      device,
      (source = hashOf(
        plain({}).sourceOn(device),
        ...layouts.map((layout) => tiles(layout, {}).sourceOn(device, low)),
        ...(hasMatrices(device, 2) ? layouts.map((layout) => matrices(layout, {}).sourceOn(device)) : []),
        ...(isVectorUnit(device) ? onVectors.map((kernel) => kernel.sourceOn(device)) : []),
      )),
    );
  }
  return source;
}

let forced: ProductSetting | undefined;

/**
 * The way to make a product: the one that a test forces, the tuner has found, or the rules above prefer.
 *
 * @param make  makes it in another way, or with other tensors, for the tuner
 */
export function settingOf(plan: Plan, make: (plan: Plan, setting: ProductSetting) => Tensor): ProductSetting {
  if (forced) return serves(plan, forced) ? forced : preferred(plan);
  const usual = preferred(plan);
  const { device } = plan.a;
  if (!device.tunings.concerns(productKernel.kernelName)) return usual;
  const { into, ending } = plan;
  const found = tunedSetting<ProductSetting>(
    device,
    {
      name: productKernel.kernelName,
      source: sourceOn(device),
      problem: problemOf(plan),
      settings() {
        const others = settings.filter((one) => serves(plan, one) && isWorthwhile(plan, one) && !isSame(one, usual));
        return [usual, ...others];
      },
      tensors: { ...tensorsOf(plan), ...(into && { y: into }) },
      updates: into ? ["y"] : [],
      precision: device.arithmetic === "f16" ? "f16" : undefined,
      run({ a, b, bias, residual, y }, setting) {
        const given = { ...plan, ending: { ...ending, bias, residual }, into: y };
        const made = make({ ...given, a: a as Tensor, b: b as Tensor }, setting);
        return into ? [] : [made];
      },
    },
    () => settings.filter((one) => runsOn(device, one)),
  );
  return found && serves(plan, found) ? found : usual;
}

const isSame = (one: KnobValues, other: KnobValues): boolean =>
  Object.entries(one).every(([knob, value]) => other[knob] === value);

/** All the ways of a product as one kernel, for the tuner, and for tests and benchmarks of what ends in one. */
export const productKernel: Kernel = {
  kernelName: "matmul",
  settings: () => settings,
  runsOn: (device, setting) => runsOn(device, setting as unknown as ProductSetting),
  with(setting, f) {
    const was = forced;
    forced = setting as unknown as ProductSetting;
    try {
      return f();
    } finally {
      forced = was;
    }
  },
};

/** The same with one setting of each arrangement, for tests of what ends in a product: how many rows a tile has is no matter there. */
export const productEndings: Kernel = {
  ...productKernel,
  settings: () =>
    settings.filter(
      (one, i) =>
        settings.findIndex((other) => arrangementOf(other) === arrangementOf(one)) === i && one.kernel !== "split",
    ),
};

const arrangementOf = (one: ProductSetting): string => (one.kernel === "tile" ? one.arrangement : one.kernel);
