/**
 * What the products of attention share: one workgroup makes some rows of a result by four columns a lane, walking along the
 * inner axis four steps at a time, without workgroup memory.
 *
 * The query rows that read one key/value head are numbered together, H/G for each query: no key is repeated for them.
 */
import { type Device, fromLane, main, type Scalar } from "@rot/tensor/kernel";

export const knobs = {
  /**
   * `shared`: for CPU adapters with subgroups, where every load is a loop over the lanes: each lane loads a part of the rows
   * and hands it round. `own`: each lane loads all of its rows, and caches do the rest.
   */
  arrangement: ["own", "shared"],
} as const;

/** One value for each of {@link knobs}. */
export interface Arrangement {
  readonly arrangement: (typeof knobs.arrangement)[number];
}

export const needs = ({ arrangement }: Arrangement): readonly GPUFeatureName[] =>
  arrangement === "shared" ? ["subgroups" as GPUFeatureName] : []; // the name is newer than the type

export const prefers = ({ kind, subgroupSize }: Device): Arrangement => ({
  arrangement: kind !== "hardware" && subgroupSize >= 4 ? "shared" : "own",
});

/** What is compiled in. */
export interface Layout {
  /** Rows of a tile. */
  readonly rows: 8 | 16 | 32 | 64;
  /** Whether every query has a range of its own. */
  readonly visible: boolean;
  /** How many rules there are; their number is rounded up with some that hold nowhere. */
  readonly rules: number;
}

/** How a kernel is laid out on a device. */
export interface Plan {
  /** Lanes of a workgroup. */
  readonly lanes: number;
  /** Lanes that hand round what they loaded; 0 where each loads for itself. */
  readonly subgroup: number;
}

/** Lanes of the arrangement without subgroups, and of `shared` where subgroups have no fixed size. */
const OWN_LANES = 32;

export function planOf({ arrangement }: Arrangement, { subgroupSize }: Device): Plan {
  const subgroup = arrangement === "shared" ? subgroupSize : 0;
  return { lanes: subgroup || OWN_LANES, subgroup };
}

/** Workgroups of a product. */
export const gridOf = (
  { pairs = 0, down = 0, parts = 0, columns = 0, lanes = 0 }: Readonly<Record<string, number>>,
  { arrangement }: Arrangement,
): number => pairs * down * parts * Math.ceil(columns / (4 * (arrangement === "shared" ? lanes : OWN_LANES)));

/** Opens the entry point of a product: `pair`, `sequence`, `head`, `part` and `tile` of a workgroup, `column` of a lane. */
export const open = (plan: Plan): string => `
  ${main(plan.lanes, { subgroups: plan.subgroup > 0 })}
    let across = (u.columns + ${4 * plan.lanes - 1}u) / ${4 * plan.lanes}u;
    if (group >= across * u.down * u.parts * u.pairs) { return; }
    let block = group % across * ${4 * plan.lanes}u;
    let column = block + 4u * ${laneName(plan)};
    let tile = group / across % u.down;
    let part = group / (across * u.down) % u.parts;
    let pair = group / (across * u.down * u.parts);
    let sequence = pair / u.groups;
    let head = pair % u.groups;`;

export const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
export const STEPS = [0, 1, 2, 3] as const;
export const MEMBER = ["x", "y", "z", "w"] as const;
/** Scalars of a problem; `chunk` is some of the query rows of every pair of a sequence and a key/value head. */
export const uniforms = {
  queries: "u32",
  keys: "u32",
  /** H, G and H/G. */
  heads: "u32",
  groups: "u32",
  repeats: "u32",
  /** K and W. */
  width: "u32",
  values: "u32",
  /** Query i sees no key after i + reach. */
  reach: "i32",
  /** Queries from one sequence's ranges to the next one's: 0 where all share them. */
  step: "u32",
  /** The chunk: its first row, and its rows. */
  first: "u32",
  rows: "u32",
  /** Elements from one row of scores to the next. */
  pitch: "u32",
  /** The grid: pairs, tiles of rows, parts of the inner axis, and columns of the result. */
  pairs: "u32",
  down: "u32",
  parts: "u32",
  columns: "u32",
  /** Keys of a part, and elements from the result of one part to the next one's. */
  part: "u32",
  stride: "u32",
  /** Lanes of a workgroup in the arrangement `shared`. */
  lanes: "u32",
  scale: "f32",
} as const;

const rule = { from: "u32", to: "u32", begin: "u32", end: "u32", start: "u32", stop: "u32", bias: "f32" } as const;

/** The uniforms of each rule, by name. */
export const ruleUniforms = (rules: number): Readonly<Record<string, Scalar>> =>
  Object.assign(
    { ...uniforms },
    ...count(rules).map((r) => Object.fromEntries(Object.entries(rule).map(([name, type]) => [`${name}_${r}`, type]))),
  );

/** Stands for −∞ in scores; several of it may add up. */
export const HIDDEN = "-1e37";
/** Which of four scores are not hidden; NaN is not. */
export const isSeen = (scores: string): string => `!(${scores} < vec4f(-5e36))`;

/** `range_of(sequence, place)`: the keys [begin, end) that a query row sees; none past the last row. */
export const rangeOf = ({ visible }: Layout): string => `
  fn range_of(sequence: u32, place: u32) -> vec2u {
    let query = place / u.repeats;
    if (query >= u.queries) { return vec2u(); }
    var range = vec2i(0, i32(u.keys));
    ${
      visible
        ? `let at = 2u * (sequence * u.step + query);
    range = clamp(vec2i(load_visible(at), load_visible(at + 1u)), vec2i(0), range.yy);`
        : ""
    }
    range.y = min(range.y, i32(query) + 1 + u.reach);
    return select(vec2u(), vec2u(range), range.x < range.y);
  }`;

/** `bounds_of(sequence, place)`: the keys that any of the rows of a tile sees. */
export const boundsOf = (layout: Layout, { subgroup }: Plan): string => `
  ${rangeOf(layout)}
  fn bounds_of(sequence: u32, place: u32, lane: u32) -> vec2u {
    var bounds = vec2u(0xffffffffu, 0u);
    for (var r = ${subgroup > 0 ? "lane" : "0u"}; r < ${layout.rows}u; r += ${subgroup || 1}u) {
      let range = range_of(sequence, place + r);
      if (range.y > 0u) { bounds = vec2u(min(bounds.x, range.x), max(bounds.y, range.y)); }
    }
    ${subgroup > 0 ? "bounds = vec2u(subgroupMin(bounds.x), subgroupMax(bounds.y));" : ""}
    return select(vec2u(), bounds, bounds.x < bounds.y);
  }`;

/** `ruled(score, sequence, query, key)`: four scores with the biases of the rules. */
export const ruled = ({ rules }: Layout): string => `
  fn ruled(scores: vec4f, sequence: u32, query: u32, key: vec4u) -> vec4f {
    var out = scores;
    ${count(rules)
      .map(
        (r) => `if (query >= u.from_${r} && query < u.to_${r} && sequence >= u.start_${r} && sequence < u.stop_${r}) {
      out += select(vec4f(), vec4f(u.bias_${r}), (key >= vec4u(u.begin_${r})) & (key < vec4u(u.end_${r})));
    }`,
      )
      .join("\n")}
    return out;
  }`;

/** `row_of(sequence, head, place)`: where a query row lies among the rows of [B, Lq, H]; the last one for those past it. */
export const rowOf = `
  fn row_of(sequence: u32, head: u32, place: u32) -> u32 {
    let query = min(place / u.repeats, u.queries - 1u);
    return (sequence * u.queries + query) * u.heads + head * u.repeats + place % u.repeats;
  }`;

/** The first lines of a kernel's source. */
export const enable = ({ subgroup }: Plan): string =>
  subgroup > 0 ? "enable subgroups;\ndiagnostic(off, subgroup_uniformity);" : "";

/** Lane of the subgroup, or of the workgroup where there is none. */
export const laneName = ({ subgroup }: Plan): string => (subgroup > 0 ? "subgroupLane" : "lane");

/** Rows as a tile reads them: each lane loads its share, or all. `at(row, step)` is one factor. */
export function rowLoads(
  { rows }: Layout,
  { subgroup }: Plan,
  load: (row: string) => { readonly start: string; readonly value: (start: string) => string },
) {
  const parts = count(subgroup > 0 ? Math.ceil(rows / subgroup) : rows);
  const row = (n: number): string =>
    subgroup === 0 ? `${n}u` : rows < subgroup ? `min(subgroupLane, ${rows - 1}u)` : `${n * subgroup}u + subgroupLane`;
  return {
    starts: parts.map((n) => `let start_${n} = ${load(row(n)).start};`).join("\n"),
    loads: parts.map((n) => `let a_${n} = ${load(row(n)).value(`start_${n}`)};`).join("\n"),
    parts,
    at: (r: number, s: number): string =>
      subgroup > 0
        ? fromLane(`a_${Math.floor(r / subgroup)}.${MEMBER[s]}`, r % subgroup, subgroup)
        : `a_${r}.${MEMBER[s]}`,
  };
}

/** `acc_r += Σ a(r, s) · b_s`, for every row of the tile. */
export const accumulate = (rows: number, at: (r: number, s: number) => string): string =>
  count(rows)
    .map((r) => `acc_${r} += ${STEPS.map((s) => `${at(r, s)} * b_${s}`).join(" + ")};`)
    .join("\n");

/** Opens a loop over the rows of a tile, `value` of each. It is not unrolled: it is much code, and compilers take long for it. */
export const eachRow = (rows: number): string => `
  let tile_rows = array<vec4f, ${rows}>(${count(rows)
    .map((r) => `acc_${r}`)
    .join(", ")});
  for (var r = 0u; r < ${rows}u; r++) {
    var value = tile_rows[r];`;
