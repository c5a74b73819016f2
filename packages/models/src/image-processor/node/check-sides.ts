/** The limit that every decoder checks first. */

import { ImageError } from "../error.ts";

/** @throws {ImageError} when a picture of these sides is empty or too large */
export function checkSides(width: number, height: number, maxPixels: number): void {
  if (width < 1 || height < 1) throw new ImageError(`a picture of ${width}x${height}`);
  if (width * height > maxPixels)
    throw new ImageError(
      `${width}x${height} is more than the ${maxPixels} pixels that a picture may have; make it smaller`,
    );
}
