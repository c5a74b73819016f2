/** Cross-entropy over a large vocabulary straight from hidden states: a block of logits at a time, never all of them. */
import {
  addmm_,
  assign,
  binary,
  cast,
  compare,
  defineOp,
  gatherLast,
  gatherRows,
  isFloat,
  logSoftmax,
  matmul,
  ones,
  print,
  reshape,
  scatterAddRows,
  scope,
  ShapeError,
  size,
  sum,
  tensor,
  type Tensor,
  unary,
  where,
  zeros,
} from "@rot/tensor";
import { emptyTensor } from "@rot/tensor/kernel";
import { type Blocks, blocksOfColumns, blocksOfRows, spans } from "./blocks.ts";
import { finishLoss, gatherState, segmentsOf, slopes } from "./cross-entropy.wgsl.ts";

interface Params {
  readonly ignoreIndex: number;
  readonly workspace: number;
}

/** Some rows of the inputs, f32 and flat, and what is known of them. */
interface Rows {
  /** [rows, D] */
  readonly hidden: Tensor;
  /** [rows] */
  readonly labels: Tensor;
  /** [rows, 3] */
  readonly state: Tensor;
}

/** Some columns of the vocabulary. */
interface Columns {
  readonly begin: number;
  /** [columns, D], rows of the head's weight where they lie */
  readonly weight: Tensor;
}

const flat = (hidden: Tensor): Tensor => cast(hidden.alias([rowsOf(hidden), hidden.shape.at(-1) as number]), "f32");
const rowsOf = (hidden: Tensor): number => size(hidden.shape.slice(0, -1));
const columnsOf = (weight: Tensor, [begin, end]: readonly [number, number]): Columns => ({
  begin,
  weight: weight.rows(begin, end),
});
const logitsOf = ({ hidden }: Rows, { weight }: Columns): Tensor => matmul(hidden, weight, { transposeB: true });

function observe(logits: Tensor, { labels, state }: Rows, { begin }: Columns): void {
  const { rows, columns } = logits.dims("rows columns");
  gatherState({ logits, labels, state }, {}, { rows, columns, begin }, { knobs: { wide: columns % 4 === 0 } });
}

/** Turns logits into their cotangents, where they are. */
function turn(logits: Tensor, block: Rows, scale: Tensor, begin: number, vocabulary: number, ignore: number): void {
  const { rows, columns } = logits.dims("rows columns");
  const wide = columns % 4 === 0;
  const uniforms = { rows, columns, begin, segments: segmentsOf(columns, wide), vocabulary, ignore };
  slopes({ logits, labels: block.labels, state: block.state, scale }, {}, uniforms, { knobs: { wide } });
}

/**
 * The loss of each row.
 *
 * With a frozen head the forward pass makes the cotangent of `hidden` too, for a cotangent of 1: it has the logits of
 * some rows at hand, and backward need not compute them again. With a trained head backward does compute them again.
 */
export const rowLosses = defineOp<[hidden: Tensor, weight: Tensor, labels: Tensor], Params>({
  name: "linearCrossEntropy",
  kernels: [gatherState],

  check([hidden, weight, labels]) {
    const { D } = weight.rank === 2 ? weight.dims("_ D") : { D: undefined };
    const fits =
      hidden.rank > 0 && hidden.shape.at(-1) === D && print(labels.shape) === print(hidden.shape.slice(0, -1));
    if (!fits) {
      throw new ShapeError(
        `linearCrossEntropy: hidden ${print(hidden.shape)}, weight ${print(weight.shape)} and labels ${print(labels.shape)} do not fit [..., D], [V, D] and [...]`,
      );
    }
    if (!isFloat(hidden.dtype) || !isFloat(weight.dtype) || (labels.dtype !== "i32" && labels.dtype !== "u32")) {
      throw new ShapeError(
        `linearCrossEntropy: it takes floats, floats and integers, got ${hidden.dtype}, ${weight.dtype} and ${labels.dtype}`,
      );
    }
  },

  reference([hidden, weight, labels], { ignoreIndex }) {
    const logits = matmul(cast(hidden, "f32"), weight, { transposeB: true });
    const loss = unary.neg(gatherLast(logSoftmax(logits), labels));
    return where(compare.ne(labels, ignoreIndex), loss, 0);
  },

  forward([hidden, weight, labels], { ignoreIndex, workspace }, needs) {
    const { device } = hidden;
    const vocabulary = weight.shape[0] as number;
    const N = rowsOf(hidden);
    const all: Rows = { hidden: flat(hidden), labels: labels.alias([N]), state: zeros(device, [N, 3]) };
    const isFrozen = needs[0] === true && !needs[1];
    const dHidden = isFrozen ? zeros(device, all.hidden.shape) : null;
    if (dHidden) {
      const blocks = blocksOfRows(N, weight, workspace);
      for (const [begin, end] of spans(N, blocks.rows)) {
        const block: Rows = {
          hidden: all.hidden.rows(begin, end),
          labels: all.labels.rows(begin, end),
          state: all.state.rows(begin, end),
        };
        scope(() => forwardAndBack(block, weight, blocks, dHidden.rows(begin, end), ignoreIndex));
      }
    } else {
      const blocks = blocksOfColumns(N, weight, workspace, 0);
      for (const span of spans(vocabulary, blocks.columns)) {
        scope(() => {
          const columns = columnsOf(weight, span);
          observe(logitsOf(all, columns), all, columns);
        });
      }
    }
    const { state } = all;
    const loss = { shape: labels.shape, dtype: "f32" } as const;
    const uniforms = { rows: N, vocabulary, ignore: ignoreIndex };
    const { loss: y } = finishLoss({ state, labels }, { loss }, uniforms);
    return [y, dHidden ?? state];
  },

  saves: (needs) => ({ inputs: [needs[1] as boolean, needs[1] as boolean, true], output: false }),

  vjp([hidden, weight, labels], { ignoreIndex, workspace }, _, dy, needs, [extra]) {
    const N = rowsOf(hidden);
    if (!needs[1]) {
      // The mean over no rows has an infinite cotangent, which must not meet the rows' 0.
      const scale = where(compare.ne(labels, ignoreIndex), dy, 0);
      const dHidden = binary.mul(extra as Tensor, reshape(scale, [N, 1]));
      return [cast(dHidden, hidden.dtype).alias(hidden.shape), null, null];
    }
    const { device } = hidden;
    const vocabulary = weight.shape[0] as number;
    const all: Rows = { hidden: flat(hidden), labels: labels.alias([N]), state: extra as Tensor };
    const dHidden = needs[0] ? zeros(device, all.hidden.shape) : null;
    const dWeight = emptyTensor(device, weight, "linearCrossEntropy.vjp");
    const scale = dy.alias([N]);
    // A row of the weight's gradient as it is made, and where it is packed to 16 bits twice more.
    const width = (weight.shape[1] as number) * (weight.dtype === "f32" ? 4 : 10);
    for (const span of spans(vocabulary, blocksOfColumns(N, weight, workspace, width).columns)) {
      scope(() => {
        const columns = columnsOf(weight, span);
        const logits = logitsOf(all, columns);
        turn(logits, all, scale, columns.begin, vocabulary, ignoreIndex);
        assign(dWeight.rows(...span), matmul(logits, all.hidden, { transposeA: true }));
        if (dHidden) addmm_(dHidden, logits, columns.weight);
      });
    }
    return [dHidden && cast(dHidden, hidden.dtype).alias(hidden.shape), dWeight, null];
  },
});

/** Takes some rows through the whole vocabulary and back: their state, and the cotangent of their hidden states. */
function forwardAndBack(block: Rows, weight: Tensor, blocks: Blocks, dHidden: Tensor, ignoreIndex: number): void {
  const vocabulary = weight.shape[0] as number;
  const waiting = [...spans(vocabulary, blocks.columns)].map((span) => {
    const columns = columnsOf(weight, span);
    const logits = logitsOf(block, columns);
    observe(logits, block, columns);
    return { columns, logits };
  });
  const scale = ones(weight.device, block.labels.shape);
  for (const { columns, logits } of waiting) {
    scope(() => {
      turn(logits, block, scale, columns.begin, vocabulary, ignoreIndex);
      addmm_(dHidden, logits, columns.weight);
    });
    logits.dispose();
  }
}

/** What {@link linearCrossEntropy} takes besides the tensors. */
export interface LinearCrossEntropyOptions {
  /** Rows with this label count for nothing. */
  readonly ignoreIndex?: number;
  /** `mean` is over the rows that are not ignored. */
  readonly reduction?: "mean" | "sum" | "none";
  /** Bytes of logits and their like at one time, if the shape lets it be so few; 48 MiB by default. */
  readonly workspace?: number;
}

const WORKSPACE = 48 * 2 ** 20;

/**
 * Cross-entropy of a language-model head: −ln softmax(hidden · weightᵀ)[label], in nats, without ever holding the
 * logits of all rows and the whole vocabulary.
 *
 * Logits and sums are f32; 16-bit hidden states are cast to f32 first, 16-bit weights are read as they are stored, and
 * a weight larger than the adapter's largest binding is taken in parts. Besides inputs and gradients it holds `workspace`
 * bytes (more only where the logits of 64 rows, for a gradient of `hidden` alone, or of 128 columns, otherwise, take more),
 * a few numbers a row, and `hidden` in f32 once, or twice if it is 16 bits wide. Gradients cost one more product for
 * `hidden` alone, and three more for both, or two for the weight alone.
 *
 * @param hidden   [..., D]
 * @param weight   [V, D], the head as checkpoints have it
 * @param labels   [...], i32 or u32; a label outside 0 … V − 1 that is not ignored makes the loss NaN. Labels on the host,
 *   in row-major order, are better where many are ignored: the rows of those then cost nothing
 * @param options  `ignoreIndex` is -100 and `reduction` `mean` by default
 * @returns        [], or for `none` the shape of the labels with 0 where they are ignored; the mean is NaN, and every
 *   gradient 0, where all labels are ignored
 * @throws {ShapeError} when shapes or dtypes do not fit, or a label on the host is outside 0 … V − 1 and not ignored
 * @see Wijmans et al. 2024, https://arxiv.org/abs/2411.09009; Hsu et al. 2024, https://arxiv.org/abs/2410.10989
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  labels: Tensor | Int32Array | readonly number[],
  { ignoreIndex = -100, reduction = "mean", workspace = WORKSPACE }: LinearCrossEntropyOptions = {},
): Tensor {
  const params = { ignoreIndex, workspace };
  return scope(() => {
    if (!("read" in labels)) return ofHostLabels(hidden, weight, labels, params, reduction);
    const losses = rowLosses(hidden, weight, labels, params);
    if (reduction === "none") return losses;
    const total = sum(losses);
    return reduction === "sum" ? total : binary.div(total, cast(sum(compare.ne(labels, ignoreIndex)), "f32"));
  });
}

/** The same from the rows alone that are not ignored. */
function ofHostLabels(
  hidden: Tensor,
  weight: Tensor,
  labels: Int32Array | readonly number[],
  params: Params,
  reduction: "mean" | "sum" | "none",
): Tensor {
  const lead = hidden.shape.slice(0, -1);
  const [vocabulary = 0, width] = weight.shape;
  if (hidden.rank === 0 || weight.rank !== 2 || hidden.shape.at(-1) !== width || labels.length !== size(lead)) {
    throw new ShapeError(
      `linearCrossEntropy: hidden ${print(hidden.shape)}, weight ${print(weight.shape)} and ${labels.length} labels do not fit [..., D], [V, D] and [...]`,
    );
  }
  const picked: number[] = [];
  for (const [row, label] of labels.entries()) {
    if (label === params.ignoreIndex) continue;
    if (!Number.isInteger(label) || label < 0 || label >= vocabulary) {
      throw new ShapeError(
        `linearCrossEntropy: label ${label} of row ${row} is none of weight ${print(weight.shape)}, nor ${params.ignoreIndex}`,
      );
    }
    picked.push(row);
  }
  const { device } = hidden;
  const rows = Int32Array.from(picked);
  const chosen = tensor(
    device,
    rows.map((row) => labels[row] as number),
    { dtype: "i32" },
  );
  const matrix = reshape(hidden, [size(lead), width as number]);
  const losses = rowLosses(rows.length === size(lead) ? matrix : gatherRows(matrix, rows), weight, chosen, params);
  if (reduction === "none") return reshape(scatterAddRows(size(lead), rows, losses), lead);
  return reduction === "sum" ? sum(losses) : binary.div(sum(losses), rows.length);
}
