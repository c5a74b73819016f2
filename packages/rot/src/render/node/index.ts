/** What rendering needs of Node: the font that comes with us, and PNG files. */
export { dejaVuSans } from "./dejavu.ts";
export { encodePng } from "./png.ts";
export { writePicture } from "./write-picture.ts";
