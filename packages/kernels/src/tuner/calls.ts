/** Calls of kernels, set aside to be tuned: with the same inputs again, at every setting. */
import { copy, keep, print, type Tensor, untaped } from "@rot/tensor";
import type { Device, UnknownCall } from "@rot/tensor/kernel";

/** A call that can be repeated as often as one likes. */
export type Call = UnknownCall<Tensor>;

/** What {@link collectCalls} gives. */
export interface Collector {
  /** Takes the calls out that were set aside since the last time. Free each with {@link freeCall}. */
  take(): readonly Call[];
  /** Kernels of which calls were too large to be set aside. */
  readonly skipped: ReadonlySet<string>;
  /** Ends it, and frees what nobody took. */
  stop(): void;
}

/** Bytes of inputs that are held at one time. */
const MOST_BYTES = 2 ** 28;

/**
 * From now on sets aside one call of each kernel and class of problems that the device knows no setting for, if there are
 * several to choose from. Inputs are copied, for the next op may change or free them.
 *
 * @param only  the kernels to look at, by their names
 */
export function collectCalls(
  device: Device,
  only: (kernel: string) => boolean = () => true,
  mostBytes = MOST_BYTES,
): Collector {
  const seen = new Set<string>();
  const skipped = new Set<string>();
  let held: { call: Call; bytes: number }[] = [];
  const before = device.tunings.collect;

  device.tunings.collect = (unknown) => {
    const call = unknown as Call;
    const name = `${call.kernel} ${call.source} ${call.problem}`;
    if (call.settings.length < 2 || seen.has(name) || !only(call.kernel)) return;
    const tensors = Object.entries(call.tensors);
    const bytes = tensors.reduce((sum, [, tensor]) => sum + tensor.bytes, 0);
    if (held.reduce((sum, one) => sum + one.bytes, bytes) > mostBytes) {
      skipped.add(call.kernel);
      return;
    }
    seen.add(name);
    const copies = untaped(() => tensors.map(([key, tensor]) => [key, keep(copy(tensor))] as const));
    held.push({ call: { ...call, tensors: Object.fromEntries(copies) }, bytes });
  };

  const take = (): readonly Call[] => {
    const taken = held.map(({ call }) => call);
    held = [];
    return taken;
  };
  return {
    take,
    skipped,
    stop() {
      device.tunings.collect = before;
      take().forEach(freeCall);
    },
  };
}

/** Frees the copies of a call's inputs. */
export function freeCall({ tensors }: Call): void {
  for (const tensor of Object.values(tensors)) tensor.dispose();
}

/** The shapes and dtypes of a call's tensors, for people. */
export const describeTensors = ({ tensors }: Call): string =>
  Object.entries(tensors)
    .map(([name, { shape, dtype }]) => `${name} ${print(shape)} ${dtype}`)
    .join(", ");
