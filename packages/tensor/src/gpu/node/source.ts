/** A place that adapters come from, and how one of them is chosen among all places. */
import { DeviceError } from "../../errors.ts";
import type { AdapterKind, FoundAdapter } from "../adapter.ts";
import { firstLine } from "./optional.ts";

/** An adapter that can be opened. */
export interface Candidate {
  /** The device's own name, such as `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  readonly name: string;
  readonly kind: AdapterKind;
  /** Where it came from, for the notice; empty when it is simply there. */
  readonly origin: string;
  open(): Promise<Pick<FoundAdapter, "gpu" | "adapter">>;
}

/** A place that adapters come from. Nothing is loaded, unpacked or fetched before `look`. */
export interface Source {
  /** Where it looks, in words that follow "in". */
  readonly place: string;
  /** Whether an adapter with this in its name may be here: what cannot serve is not fetched. */
  mayHave(part: string): boolean;
  /**
   * @param insist  true when the user asked for this kind by name: an earlier failure is no reason not to try
   * @throws {Error} that says in one line why there is none
   */
  look(insist: boolean): Promise<Candidate[]>;
}

export interface Choice {
  readonly found: FoundAdapter;
  /** The one line for the user. */
  readonly notice: string;
}

/** The places, in the order in which they are asked. */
export interface Sources {
  readonly system: Source;
  readonly fetched: Source;
  readonly embedded: Source;
}

/**
 * Chooses an adapter: the one asked for, else hardware, else software of the system, else fetched, else embedded.
 *
 * @param wish  part of the adapter's name in any case, or `hardware`, `software`, `embedded`
 * @throws {DeviceError} that says what was tried and what would mend it
 */
export async function chooseAdapter(wish: string | undefined, sources: Sources): Promise<Choice> {
  const { system, fetched, embedded } = sources;
  const asked = wish?.trim().toLowerCase() || undefined;
  const search = new Search(asked !== undefined);
  if (asked === undefined) {
    const places = [system, fetched, embedded];
    return (
      (await search.first([system], isHardware)) ?? (await search.first(places, () => true)) ?? search.fail(NOTHING)
    );
  }
  switch (asked) {
    case "hardware":
      return (await search.first([system], isHardware)) ?? search.fail(`no GPU was found. ${DRIVER}`);
    case "software":
      return (
        (await search.first([system, fetched], ({ kind }) => kind === "software")) ??
        search.fail(`no software Vulkan was found. ${MESA}`)
      );
    case "embedded":
      return (await search.first([embedded], () => true)) ?? search.fail("the embedded adapter does not serve.");
  }
  // People call Mesa's driver by its project's name; the adapter itself says llvmpipe.
  const part = asked.replace("lavapipe", "llvmpipe");
  const places = [system, fetched, embedded].filter((source) => source.mayHave(part));
  const choice = await search.first(places, ({ name }) => name.toLowerCase().includes(part));
  return choice ?? search.fail(`no adapter has "${wish}" in its name. ${NAMES}`);
}

const DRIVER = "A GPU needs its driver's Vulkan part and permission to open its device files.";
const MESA = "Install mesa-vulkan-drivers (Mesa 23 or newer), or let it be fetched.";
const NAMES = "Besides names, there are: hardware, software (llvmpipe), embedded (SwiftShader).";
const NOTHING = `no adapter was found. ${DRIVER} Without a GPU: ${MESA}`;

function isHardware({ kind }: Candidate): boolean {
  return kind === "hardware";
}

/** One search through the places, with all that was seen on the way. */
class Search {
  readonly #insist: boolean;
  readonly #seen = new Map<Source, Candidate[]>();
  readonly #reasons: string[] = [];

  constructor(insist: boolean) {
    this.#insist = insist;
  }

  async first(places: readonly Source[], fits: (candidate: Candidate) => boolean): Promise<Choice | undefined> {
    for (const source of places) {
      for (const candidate of (await this.#look(source)).filter(fits)) {
        try {
          const opened = await candidate.open();
          return { found: { ...opened, kind: candidate.kind }, notice: this.#notice(candidate) };
        } catch (error) {
          this.#reasons.push(`${candidate.name} did not open: ${firstLine(error)}`);
        }
      }
    }
    return undefined;
  }

  fail(what: string): never {
    const names = [...this.#seen.values()].flat().map(({ name }) => name);
    const seen = names.length > 0 ? ` Seen: ${names.join(", ")}.` : "";
    const tried = this.#reasons.length > 0 ? ` Tried: ${this.#reasons.join("; ")}.` : "";
    throw new DeviceError(`${what}${seen}${tried}`);
  }

  async #look(source: Source): Promise<Candidate[]> {
    let candidates = this.#seen.get(source);
    if (!candidates) {
      try {
        candidates = await source.look(this.#insist);
      } catch (error) {
        candidates = [];
        this.#reasons.push(`${source.place}: ${firstLine(error)}`);
      }
      this.#seen.set(source, candidates);
    }
    return candidates;
  }

  #notice({ name, kind, origin }: Candidate): string {
    const line = [`adapter: ${name}`, kind, origin].filter(Boolean).join(", ");
    if (this.#insist || kind === "hardware") return line;
    return [line, "no GPU was found", ...this.#reasons].join("; ");
  }
}
