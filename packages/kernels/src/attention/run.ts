/**
 * Attention and its gradients on the device. Scores exist for some query rows at a time, in a buffer of bounded size, and
 * each chunk of rows goes through the products one after the other; or they never exist at all.
 */
import { binary, cast, type DType, sum, type Tensor, zeros } from "@rot/tensor";
import { emptyTensor, isVectorUnit, powerOfFour, tunedSetting } from "@rot/tensor/kernel";
import { busyLanes } from "../shared/defaults.ts";
import { attendByFlash, fitsFlash } from "./flash.ts";
import {
  type AttentionSetting,
  attentionKernels,
  forcedSetting,
  gatherKernel,
  normaliseKernel,
  scatterKernel,
  scoresKernel,
  settingsOn,
  sourceOn,
  tilesOn,
  withSetting,
} from "./kernels.ts";
import { attendByPanels, fitsPanels } from "./panels.ts";
import {
  type Attended,
  type Call,
  chunksOf,
  guarded,
  type Problem,
  problemOf,
  rowsAndPairs,
  strip,
  up,
} from "./problem.ts";
import { spansOf } from "./rows.wgsl.ts";
import { prefers } from "./tile.wgsl.ts";

/** MiB of scores at one time where nothing was measured. */
const WORKSPACE = 8;
/** Rows of a tile of keys, and what chunks are multiples of. */
const TILE = 16;
/** Query rows up to which the keys may be cut into parts, and the keys of a part. */
const FEW_ROWS = 64;
/** Query rows from which packing keys and values pays on a CPU. */
const PANEL_ROWS = 96;
const LEAST_PART = 256;

/** Attention of `q` on `k` and `v`, in the way that suits the device and the problem. */
export function attend(call: Call): Attended {
  const setting = settingOf(call);
  return withSetting(setting, () => {
    if (setting.arrangement === "flash") return attendByFlash(call);
    if (setting.arrangement === "panels") return attendByPanels(call, setting.workspace);
    return attendByTiles(call, setting.workspace);
  });
}

/** Whether a way leads to the result at all. */
function serves(call: Call, { arrangement }: AttentionSetting): boolean {
  return arrangement === "panels" ? fitsPanels(call) : arrangement !== "flash" || fitsFlash(call);
}

/** Few rows are too little work for a workgroup of `flash`, and reread too little for panels. */
function preferred(call: Call): AttentionSetting {
  const { device } = call.q;
  const [rows] = rowsAndPairs(call);
  const panels = { arrangement: "panels", workspace: WORKSPACE } as const;
  const flash = { arrangement: "flash" } as const;
  if (rows >= PANEL_ROWS && isVectorUnit(device) && serves(call, panels)) return panels;
  if (rows > FEW_ROWS && device.kind === "hardware" && serves(call, flash)) return flash;
  return { ...prefers(device), workspace: WORKSPACE };
}

/** The way that a test forces, the tuner has found, or the rules above prefer. */
function settingOf(call: Call): AttentionSetting {
  const { q, k, v, visible, params } = call;
  const { device } = q;
  const usual = preferred(call);
  const forced = forcedSetting();
  if (forced) return serves(call, forced) ? forced : usual;
  const name = attentionKernels.kernelName;
  if (!device.tunings.concerns(name)) return usual;
  const isSame = (one: AttentionSetting): boolean => JSON.stringify(one) === JSON.stringify(usual);
  const lengths = [...rowsAndPairs(call), k.shape[1] as number, q.shape[3] as number, v.shape[3] as number];
  const found = tunedSetting<AttentionSetting>(
    device,
    {
      name,
      source: sourceOn(device),
      problem: [
        ...[q, k, v].map(({ dtype }) => dtype),
        [params.causal, visible, params.rules.length > 0].map((flag) => Number(Boolean(flag))).join(""),
        ...lengths.map(powerOfFour),
      ].join(" "),
      settings: () => [usual, ...settingsOn(device).filter((one) => serves(call, one) && !isSame(one))],
      tensors: { q, k, v, ...(visible && { visible }) },
      updates: [],
      run(tensors, setting) {
        const { q, k, v } = tensors as { q: Tensor; k: Tensor; v: Tensor };
        const { y, total } = withSetting(setting, () => attend({ q, k, v, visible: tensors["visible"], params }));
        return [y, total];
      },
    },
    () => settingsOn(device),
  );
  return found && serves(call, found) ? found : usual;
}

const tileProblem = (call: Call, workspace: number): Problem => {
  const isShort = rowsAndPairs(call)[0] <= 8 || tilesOn(call.q.device).arrangement === "own";
  return problemOf(call, { rows: isShort ? 8 : TILE, step: TILE, columns: 4, workspace });
};

function attendByTiles(call: Call, workspace: number): Attended {
  const { q, k, v, visible } = call;
  const { device } = q;
  const { B, Lq, H } = q.dims("B Lq H _");
  const { Lk, W } = v.dims("_ Lk _ W");
  const problem = tileProblem(call, workspace);
  const { layout, rows, pairs } = problem;
  const plain = { ...layout, rules: 0 };
  const p = strip(problem, "attention.scores");
  const parts =
    rows > FEW_ROWS ? 1 : Math.max(1, Math.min(Math.ceil(busyLanes(device) / (pairs * W)), Math.ceil(Lk / LEAST_PART)));
  const y = emptyTensor(device, { shape: [parts, B, Lq, H, W], dtype: "f32" }, "attention");
  const total = emptyTensor(device, { shape: [B, Lq, H], dtype: "f32" }, "attention.total");
  for (const chunk of chunksOf(problem)) {
    scoresKernel(layout, "score")({ a: q, b: k, visible, y: p }, { ...chunk, columns: problem.pitch });
    normaliseKernel(plain)({ visible, p, total }, chunk);
    gatherKernel(guarded(layout))(
      { p, b: v, visible, y },
      { ...chunk, columns: W, parts, part: up(Math.ceil(Lk / parts), 4), stride: y.size / parts },
    );
  }
  return { y: parts === 1 ? y.alias([B, Lq, H, W]) : sum(y, 0), total };
}

/** The cotangents of q, k and v; null for those that are not wanted. */
export function attendBack(
  call: Call,
  y: Tensor,
  total: Tensor,
  dy: Tensor,
  needs: readonly boolean[],
): readonly [Tensor | null, Tensor | null, Tensor | null] {
  const { q, k, v, visible } = call;
  const { device } = q;
  const problem = tileProblem(call, WORKSPACE);
  const { layout, uniforms } = problem;
  const [K, W] = [uniforms["width"], uniforms["values"]] as [number, number];
  const slopes = needs[0] || needs[1];
  const p = strip(problem, "attention.probabilities");
  const ds = slopes ? strip(problem, "attention.slopes") : null;
  const delta = slopes ? sum(binary.mul(cast(dy, "f32"), cast(y, "f32")), -1) : null;
  const dq = needs[0] ? emptyTensor(device, { shape: q.shape, dtype: "f32" }, "attention.dq") : null;
  const dk = needs[1] ? zeros(device, k.shape) : null;
  const dv = needs[2] ? zeros(device, v.shape) : null;
  const keyTiles = Math.ceil((uniforms["keys"] as number) / TILE);
  const spans = visible && (dk || dv) ? keySpans(visible, keyTiles, problem) : undefined;
  const toKeys = scatterKernel({ rows: TILE, visible: spans !== undefined, rules: 0 });

  for (const chunk of chunksOf(problem)) {
    scoresKernel(layout, "probability")({ a: q, b: k, visible, total, y: p }, { ...chunk, columns: problem.pitch });
    if (dv) toKeys({ p, b: dy, spans, y: dv }, { ...chunk, columns: W, down: keyTiles });
    if (!ds || !delta) continue;
    scoresKernel({ ...layout, rules: 0 }, "slope")(
      { a: dy, b: v, visible, total: delta, p, y: ds },
      { ...chunk, columns: problem.pitch },
    );
    if (dk) toKeys({ p: ds, b: q, spans, y: dk }, { ...chunk, columns: K, down: keyTiles });
    if (dq) {
      gatherKernel(guarded(layout))({ p: ds, b: k, visible, y: dq }, { ...chunk, columns: K });
    }
  }
  const give = (d: Tensor | null, dtype: DType): Tensor | null => d && cast(d, dtype);
  return [give(dq, q.dtype), give(dk, k.dtype), give(dv, v.dtype)];
}

function keySpans(visible: Tensor, down: number, { uniforms }: Problem): Tensor {
  const sequences = visible.shape[0] as number;
  const spans = { shape: [sequences, down, 2], dtype: "i32" } as const;
  return spansOf({ visible }, { spans }, { ...uniforms, first: 0, rows: 0, pairs: sequences, down }).spans;
}
