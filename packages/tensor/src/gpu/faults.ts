/** Errors that WebGPU reports late: gathered here, and thrown by whoever waits for the device next. */
import { DeviceError, DeviceLostError, KernelError, OutOfMemoryError } from "../errors.ts";

/** How long the news that the device is lost may come after its effects. */
const LATE_MILLISECONDS = 1000;

export class Faults {
  readonly #gpu: GPUDevice;
  readonly #rest: () => () => void;
  readonly #adapterName: string;
  readonly #checks = new Set<Promise<void>>();
  /** What went wrong, oldest first. */
  readonly #errors: { readonly error: Error; readonly rank: number }[] = [];
  /** How many of them somebody has been told, and how many waits are under way, which may still have to be told. */
  #told = 0;
  #waits = 0;
  #lost: DeviceLostError | undefined;
  /** Waiters to reject when the device is lost. Racing one eternal promise instead would keep every waiter's memory. */
  readonly #waiting = new Set<(lost: DeviceLostError) => void>();

  /** @param rest  called when a wait begins; what it returns is called at its end */
  constructor(gpu: GPUDevice, adapterName: string, rest: () => () => void) {
    this.#gpu = gpu;
    this.#rest = rest;
    this.#adapterName = adapterName;
    void gpu.lost.then((why) => this.lose(why.message.replace(/\.$/, "") || why.reason));
    gpu.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.#errors.push({ error: new KernelError(error.message), rank: 2 });
    });
  }

  /** Rejects whoever waits for the device, and refuses everything from now on. */
  lose(why: string): void {
    if (this.#lost) return;
    const lost = new DeviceLostError(
      `the device (${this.#adapterName}) is lost: ${why}. What it held is gone; open a new device and go on from a checkpoint`,
    );
    this.#lost = lost;
    for (const reject of this.#waiting) reject(lost);
    this.#waiting.clear();
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** @throws {DeviceLostError} when the device is known to be lost */
  refuseIfLost(): void {
    if (this.#lost) throw this.#lost;
  }

  /**
   * Runs `make` with WebGPU's errors caught, and turns one that arrives into `explain`'s.
   *
   * @param kind     which of WebGPU's errors to catch
   * @param explain  makes the error that {@link settle} will throw
   */
  watch<T>(kind: GPUErrorFilter, make: () => T, explain: (message: string) => Error | Promise<Error>): T {
    this.#gpu.pushErrorScope(kind);
    try {
      return make();
    } finally {
      this.await(this.#gpu.popErrorScope(), explain);
    }
  }

  /** As {@link watch}, for an error scope that the caller has popped. */
  await(scope: Promise<GPUError | null>, explain: (message: string) => Error | Promise<Error>): void {
    const check = scope
      .then(async (error) => {
        if (!error) return;
        const explained = await explain(error.message);
        this.#errors.push({ error: explained, rank: explained instanceof OutOfMemoryError ? 0 : 1 });
      })
      .catch(() => {}); // the device is lost, which settle() says better
    this.#checks.add(check);
    void check.finally(() => this.#checks.delete(check));
  }

  /**
   * Waits for what has been reported, or for `work` if given, and throws the first error.
   *
   * @throws {KernelError | OutOfMemoryError | DeviceLostError}
   */
  async settle<T>(work: Promise<T>): Promise<T> {
    const from = this.#told;
    const wake = this.#rest();
    this.#waits++;
    try {
      const result = await this.#unlessLost(work);
      await this.#checked();
      const first = this.#take(from);
      if (first) throw first;
      return result;
    } catch (error) {
      if (error instanceof DeviceError) throw error;
      await this.#checked();
      const first = this.#take(from);
      if (first) throw first;
      // A browser refuses what waits for the device a moment before it says that the device is lost.
      this.refuseIfLost();
      await this.#unlessLost(new Promise((done) => setTimeout(done, LATE_MILLISECONDS)));
      throw new DeviceError(error instanceof Error ? error.message : String(error));
    } finally {
      wake();
      if (--this.#waits === 0) {
        this.#errors.splice(0, this.#told);
        this.#told = 0;
      }
    }
  }

  async #checked(): Promise<void> {
    if (this.#checks.size > 0) await this.#unlessLost(Promise.all(this.#checks));
  }

  #unlessLost<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  /**
   * Of the errors that nobody had been told when a wait began, the one that explains the others: out of memory comes
   * before the invalid buffers that follow from it. Waits that overlap are all told, for any of them may hold nonsense.
   */
  #take(from: number): Error | undefined {
    const news = this.#errors.slice(from);
    this.#told = this.#errors.length;
    return news.toSorted((a, b) => a.rank - b.rank)[0]?.error;
  }
}
