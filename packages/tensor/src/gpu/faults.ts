/** Errors that WebGPU reports late: gathered here, and thrown by whoever waits for the device next. */
import { DeviceError, DeviceLostError, KernelError, OutOfMemoryError } from "../errors.ts";

/** How long the news that the device is lost may come after its effects. */
const LATE_MILLISECONDS = 1000;

export class Faults {
  readonly #gpu: GPUDevice;
  readonly #checks = new Set<Promise<void>>();
  /** Errors that know their cause, and then those that only follow from one. */
  readonly #pending: Error[] = [];
  readonly #uncaught: Error[] = [];
  #lost: DeviceLostError | undefined;
  /** Waiters to reject when the device is lost. Racing one eternal promise instead would keep every waiter's memory. */
  readonly #waiting = new Set<(lost: DeviceLostError) => void>();

  constructor(gpu: GPUDevice, adapterName: string) {
    this.#gpu = gpu;
    void gpu.lost.then((why) => {
      const lost = new DeviceLostError(
        `the device (${adapterName}) is lost: ${why.message || why.reason}. What it held is gone; open a new device and go on from a checkpoint`,
      );
      this.#lost = lost;
      for (const reject of this.#waiting) reject(lost);
      this.#waiting.clear();
    });
    gpu.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.#uncaught.push(new KernelError(error.message));
    });
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
    const check = scope.then(
      async (error) => {
        if (error) this.#pending.push(await explain(error.message));
      },
      () => {}, // the device is lost, which settle() says better
    );
    this.#checks.add(check);
    void check.finally(() => this.#checks.delete(check));
  }

  /**
   * Waits for what has been reported, or for `work` if given, and throws the first error.
   *
   * @throws {KernelError | OutOfMemoryError | DeviceLostError}
   */
  async settle<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await this.#unlessLost(work);
      await this.#checked();
      const first = this.#take();
      if (first) throw first;
      return result;
    } catch (error) {
      if (error instanceof DeviceError) throw error;
      await this.#checked();
      const first = this.#take();
      if (first) throw first;
      // A browser refuses what waits for the device a moment before it says that the device is lost.
      this.refuseIfLost();
      await this.#unlessLost(new Promise((done) => setTimeout(done, LATE_MILLISECONDS)));
      throw new DeviceError(error instanceof Error ? error.message : String(error));
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

  /** The error that explains the others: out of memory comes before the invalid buffers that follow from it. */
  #take(): Error | undefined {
    const first =
      this.#pending.find((error) => error instanceof OutOfMemoryError) ?? this.#pending[0] ?? this.#uncaught[0];
    this.#pending.length = 0;
    this.#uncaught.length = 0;
    return first;
  }
}
