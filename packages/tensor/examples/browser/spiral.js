// @ts-check
import { grad, keep, matmul, requireGrad, scope, tensor, untaped, zeros } from "@rot/tensor";

/** Two arms that wind around each other. */
export const points = Array.from({ length: 200 }, (_, i) => {
  const arm = i % 2;
  const radius = 0.1 + (0.9 * i) / 199;
  const angle = radius * 1.5 * 2 * Math.PI + arm * Math.PI;
  return { x: radius * Math.cos(angle), y: radius * Math.sin(angle), arm };
});

/** The plane from -1.2 to 1.2 as a grid of cells, row by row from the top left: where the network is asked for its guess. */
export const grid = { cells: 64, reach: 1.2 };

/**
 * @param {import("@rot/tensor").Device} device
 */
export async function* learnSpiral(device) {
  yield { step: 0, loss: 0, right: 0, guesses: new Float32Array(64 * 64) };
}
