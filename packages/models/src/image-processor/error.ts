/** A picture, or a processor's configuration, that cannot be used. Names the file where there is one. */
export class ImageError extends Error {
  override readonly name: string = "ImageError";
}
