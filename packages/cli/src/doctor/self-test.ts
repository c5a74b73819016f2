/** One matmul on the device, against the same in double precision, repeated for about a second. */
import { type Device, matmul, scope, tensor } from "@rot/tensor";

/** What the self-test found. */
export interface SelfTest {
  readonly passed: boolean;
  /** Rows and columns of the matrices. */
  readonly size: number;
  /** The largest error of an element, divided by the largest element. */
  readonly error: number;
  /** 10⁹ multiplications or additions a second, over the repetitions. */
  readonly gigaflops: number;
  readonly seconds: number;
}

const SIZE = 256;
/** f32 sums of 256 products are far nearer than this; a broken kernel or driver is not. */
const TOLERANCE = 1e-4;
const MILLISECONDS = 1000;

/** Multiplies two fixed matrices again and again and checks the result. */
export async function selfTest(device: Device): Promise<SelfTest> {
  const started = performance.now();
  const a = Float32Array.from({ length: SIZE * SIZE }, (_, i) => Math.sin(i + 1));
  const b = Float32Array.from({ length: SIZE * SIZE }, (_, i) => Math.cos(3 * i + 2));
  const left = tensor(device, a, { shape: [SIZE, SIZE] });
  const right = tensor(device, b, { shape: [SIZE, SIZE] });
  const product = matmul(left, right);
  const error = worstError(a, b, await product.read());

  let runs = 0;
  const from = performance.now();
  while (performance.now() - from < MILLISECONDS) {
    scope(() => void matmul(left, right));
    await device.sync();
    runs++;
  }
  const seconds = (performance.now() - from) / 1000;
  for (const t of [left, right, product]) t.dispose();
  return {
    passed: error < TOLERANCE,
    size: SIZE,
    error,
    gigaflops: (2 * SIZE ** 3 * runs) / seconds / 1e9,
    seconds: (performance.now() - started) / 1000,
  };
}

function worstError(a: Float32Array, b: Float32Array, got: ArrayLike<number>): number {
  let worst = 0;
  let scale = 0;
  for (let row = 0; row < SIZE; row++) {
    for (let column = 0; column < SIZE; column++) {
      let sum = 0;
      for (let k = 0; k < SIZE; k++) sum += (a[row * SIZE + k] as number) * (b[k * SIZE + column] as number);
      const difference = Math.abs(sum - (got[row * SIZE + column] as number));
      worst = Math.max(worst, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
      scale = Math.max(scale, Math.abs(sum));
    }
  }
  return worst / scale;
}
