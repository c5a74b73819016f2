/** A file written bit by bit that is at its place whole or not at all. */
import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

const BUFFERED = 1 << 20;

/** Written aside. Until {@link WholeFile.commit} what was at the place stays. */
export class WholeFile {
  readonly path: string;
  readonly #aside: string;
  readonly #handle: FileHandle;
  #waiting: string[] = [];
  #length = 0;

  private constructor(path: string, aside: string, handle: FileHandle) {
    this.path = path;
    this.#aside = aside;
    this.#handle = handle;
  }

  /** Begins a file, and makes the folders above it. */
  static async create(path: string): Promise<WholeFile> {
    await mkdir(dirname(path), { recursive: true });
    const aside = join(dirname(path), `.${randomUUID()}.part`);
    return new WholeFile(path, aside, await open(aside, "wx"));
  }

  /** Adds text at the end. */
  async write(text: string): Promise<void> {
    this.#waiting.push(text);
    this.#length += text.length;
    if (this.#length >= BUFFERED) await this.#flush();
  }

  async #flush(): Promise<void> {
    const text = this.#waiting.join("");
    this.#waiting = [];
    this.#length = 0;
    await this.#handle.appendFile(text);
  }

  /** Brings what was written to the disk: all that may fail. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#handle.sync();
    await this.#handle.close();
  }

  /** Puts the finished file to its place. */
  commit(): Promise<void> {
    return rename(this.#aside, this.path);
  }

  /** Removes what was written and not put to its place. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => {}); // closed already where it was finished
    await rm(this.#aside, { force: true });
  }
}
