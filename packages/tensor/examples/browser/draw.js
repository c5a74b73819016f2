// @ts-check
/** The pictures: plain canvas, nothing of tensors. */

const BLUE = [47, 111, 222];
const ORANGE = [240, 128, 32];

/**
 * Points and a line over the square from -1.2 to 1.2.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {readonly { x: number, y: number }[]} points
 * @param {{ slope: number, offset: number }} line
 */
export function drawLine(canvas, points, { slope, offset }) {
  const { pen, at } = paper(canvas, 1.2);
  for (const point of points) dot(pen, at(point.x, point.y), BLUE);
  pen.strokeStyle = css(ORANGE);
  pen.lineWidth = canvas.width / 120;
  pen.beginPath();
  pen.moveTo(...at(-1.2, -1.2 * slope + offset));
  pen.lineTo(...at(1.2, 1.2 * slope + offset));
  pen.stroke();
}

/**
 * A guess from 0 (blue) to 1 (orange) for every cell of a grid, and the points over it.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {readonly { x: number, y: number, arm: number }[]} points
 * @param {{ cells: number, reach: number }} grid
 * @param {ArrayLike<number>} guesses  cells² numbers, row by row from the top left
 */
export function drawBoundary(canvas, points, { cells, reach }, guesses) {
  const image = new ImageData(cells, cells);
  for (let i = 0; i < cells * cells; i++) image.data.set(blend(guesses[i] ?? 0.5), 4 * i);
  const small = new OffscreenCanvas(cells, cells);
  context(small).putImageData(image, 0, 0);
  const { pen, at } = paper(canvas, reach);
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  for (const { x, y, arm } of points) dot(pen, at(x, y), arm === 0 ? BLUE : ORANGE);
}

/** Blue at 0, white at ½, orange at 1. @param {number} guess */
function blend(guess) {
  const colour = guess < 0.5 ? BLUE : ORANGE;
  const strength = 0.75 * Math.abs(2 * guess - 1);
  return [...colour.map((part) => 255 + strength * (part - 255)), 255];
}

/** An empty canvas, and where a point of the plane lies on it. @param {HTMLCanvasElement} canvas @param {number} reach */
function paper(canvas, reach) {
  const pen = context(canvas);
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  /** @type {(x: number, y: number) => [number, number]} */
  const at = (x, y) => [((x / reach + 1) / 2) * width, ((1 - y / reach) / 2) * height];
  return { pen, at };
}

/** @param {CanvasRenderingContext2D} pen @param {[number, number]} at @param {number[]} colour */
function dot(pen, at, colour) {
  pen.beginPath();
  pen.arc(...at, pen.canvas.width / 90, 0, 2 * Math.PI);
  pen.fillStyle = css(colour);
  pen.fill();
  pen.strokeStyle = "white";
  pen.lineWidth = pen.canvas.width / 360;
  pen.stroke();
}

/** @param {number[]} colour */
const css = (colour) => `rgb(${colour.join(" ")})`;

/**
 * @template {HTMLCanvasElement | OffscreenCanvas} C
 * @param {C} canvas
 * @returns {C extends HTMLCanvasElement ? CanvasRenderingContext2D : OffscreenCanvasRenderingContext2D}
 */
function context(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("this browser draws on no canvas");
  return /** @type {any} */ (found);
}
