import {
  binary,
  concat,
  defineOp,
  gatherRows,
  print,
  scatterAddRows,
  ShapeError,
  scope,
  type Tensor,
  zeros,
} from "@rot/tensor";
import { emptyTensor } from "@rot/tensor/kernel";
import { checkFloats, isWide } from "../shared/rows.ts";
import { embeddingForward } from "./gather.wgsl.ts";

/** {@link embedding} as the tape, the tests and the benchmarks know it. */
export const embeddingOp = defineOp<[ids: Tensor, table: Tensor, extra: Tensor]>({
  name: "embedding",
  kernels: [embeddingForward],

  check([ids, table, extra]) {
    checkFloats("embedding", { table, extra });
    if (ids.dtype !== "i32" && ids.dtype !== "u32") {
      throw new ShapeError(`embedding: ids ${print(ids.shape)} are ${ids.dtype}, not i32 or u32`);
    }
    if (table.rank !== 2 || extra.rank !== 2 || table.shape[1] !== extra.shape[1] || table.dtype !== extra.dtype) {
      const [a, b] = [table, extra].map(({ shape, dtype }) => `${print(shape)} ${dtype}`);
      throw new ShapeError(`embedding: table is ${a} and extra ${b}, not two matrices of one width and dtype`);
    }
  },

  reference: ([ids, table, extra]) => gatherRows(concat([table, extra], 0), ids),

  forward([ids, table, extra]) {
    const [rows, width] = table.shape as [number, number];
    const extraRows = extra.shape[0] as number;
    const wide = isWide(width);
    const step = wide ? 4 : 1;
    const { dtype, device } = table;
    // No rows have no memory that vectors could be bound to; nobody reads what stands in for it.
    const bound = (x: Tensor): Tensor =>
      x.size > 0 ? x : emptyTensor(device, { shape: [1, width], dtype }, "embedding");
    return embeddingForward(wide)(
      { ids, table: bound(table), extra: bound(extra) },
      { y: { shape: [...ids.shape, width], dtype } },
      { n: (ids.size * width) / step, width: width / step, rows, extraRows },
    ).y;
  },

  saves: { inputs: [true, false, false], output: false },

  vjp([ids, table, extra], _params, _y, dy, needs) {
    const [rows, extraRows] = [table, extra].map(({ shape }) => shape[0]) as [number, number];
    return [
      null,
      // Rows outside the one or the other are skipped, as negative numbers are.
      needs[1] ? scatterAddRows(rows, ids, dy) : null,
      needs[2] ? scatterAddRows(extraRows, binary.sub(ids, rows), dy) : null,
    ];
  },
});

/**
 * Rows of a table: `y[…, :] = table[ids[…], :]`, read as they are stored.
 *
 * With `extra`, ids from N on are its rows: a few trainable ones behind a frozen table, which then neither holds them nor
 * gets a gradient.
 *
 * @param ids    i32 or u32 of any shape; NaN comes of an id that is no row, and no gradient flows
 * @param table  [N, D], f32, f16 or bf16
 * @param extra  [M, D], in the dtype of the table
 * @returns      [...ids.shape, D], in the dtype of the table
 * @throws {ShapeError} when the ids are no integers, or table and extra are no matrices of one width and dtype of floats
 */
export function embedding(ids: Tensor, table: Tensor, extra?: Tensor): Tensor {
  return scope(() =>
    embeddingOp(ids, table, extra ?? zeros(table.device, [0, table.shape[1] ?? 0], table.dtype), undefined),
  );
}
