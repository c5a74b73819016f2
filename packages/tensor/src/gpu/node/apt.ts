/** Fetches lavapipe, Mesa's software Vulkan, with the system's apt: as an ordinary user, and installing nothing. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, realpath, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { DeviceError } from "../../errors.ts";
import {
  type AptSource,
  parseOneLineSources,
  parseStanzaSources,
  printSources,
  releaseSources,
} from "./apt-sources.ts";
import { neededLibraries } from "./elf.ts";
import { firstLine } from "./optional.ts";

/** Dawn refuses the lavapipe of an older Mesa. */
const OLDEST_MESA = 23;
const MESA = "mesa-vulkan-drivers";
const DRIVER = "libvulkan_lvp.so";
const LOADER = "libvulkan.so.1";
/** Node itself runs on the system's C and C++ libraries; a process must not hold two of them. */
const OF_THE_SYSTEM = new Set(["libc6", "libgcc-s1", "libstdc++6"]);

/** A Debian or Ubuntu release, and its name for this processor. */
export interface Release {
  readonly id: string;
  readonly codename: string;
  readonly architecture: string;
}

/** Packages at their versions: all that lavapipe needs, as apt's own dependency data says. */
export interface Closure {
  /** Mesa's version. */
  readonly version: string;
  /** `name=version`, for `apt-get download`. */
  readonly packages: readonly string[];
}

/** The release this system is of. @throws {DeviceError} when it has no apt, or an unknown processor */
export async function systemRelease(): Promise<Release> {
  const architecture = { x64: "amd64", arm64: "arm64" }[process.arch as string];
  if (process.platform !== "linux" || !architecture || !existsSync("/usr/bin/apt-get")) {
    throw new DeviceError("lavapipe is fetched with apt, which is not here");
  }
  const text = await readFile("/etc/os-release", "utf8");
  const value = (name: string): string => new RegExp(`^${name}="?([\\w.-]*)`, "m").exec(text)?.[1] ?? "";
  const ubuntu = value("UBUNTU_CODENAME");
  const release = { id: ubuntu ? "ubuntu" : value("ID"), codename: ubuntu || value("VERSION_CODENAME"), architecture };
  if (!release.codename) throw new DeviceError("/etc/os-release names no release to fetch lavapipe for");
  return release;
}

/** apt with a state of its own in one folder, so that it needs no rights and leaves the system as it is. */
export class PrivateApt {
  readonly #folder: string;
  readonly #release: Release;
  readonly #signal: AbortSignal;

  constructor(folder: string, release: Release, signal: AbortSignal) {
    this.#folder = folder;
    this.#release = release;
    this.#signal = signal;
  }

  /** Reads the package lists of the system's own archives, and works out what to download. */
  async resolve(all?: readonly AptSource[]): Promise<Closure> {
    const sources = releaseSources(all ?? (await systemSources()), this.#release);
    if (sources.length === 0) throw new DeviceError(`apt's sources name no archive of ${this.#release.codename}`);
    await this.#configure(sources);
    await this.#run("apt-get", ["update"]);
    const backports = `${this.#release.codename}-backports`;
    const offers = parseMadison(await this.#run("apt-cache", ["madison", MESA]));
    const own = offers.find(({ suite }) => suite !== backports);
    const recent = (version: string | undefined): boolean => Number.parseInt(version ?? "0", 10) >= OLDEST_MESA;
    if (!offers.some(({ version }) => recent(version))) {
      const best = offers[0] ? `Mesa ${offers[0].version}, and Dawn needs ${OLDEST_MESA} or newer` : `no ${MESA}`;
      throw new DeviceError(`the archives of ${this.#release.codename} offer ${best}`);
    }
    const target = recent(own?.version) ? [] : ["-t", backports];
    const packages = parseSimulation(await this.#run("apt-get", ["-s", ...target, "install", MESA, "libvulkan1"]));
    const version = packages.find(({ name }) => name === MESA)?.version;
    if (version === undefined) throw new DeviceError(`apt would not install ${MESA}`);
    return { version, packages: packages.map((each) => `${each.name}=${each.version}`) };
  }

  /** Downloads and unpacks; then `target` holds the driver, the loader, and the libraries they need, one file each. */
  async fetch(closure: Closure, target: string): Promise<void> {
    const debs = join(this.#folder, "debs");
    const tree = join(this.#folder, "tree");
    await mkdir(debs);
    await this.#run("apt-get", ["download", ...closure.packages], debs);
    for (const deb of await readdir(debs)) await this.#run("dpkg-deb", ["-x", join(debs, deb), tree]);
    const libraries = await librariesIn(tree);
    const order = await loadOrder([DRIVER, LOADER], libraries);
    for (const name of order) await rename(libraries.get(name) ?? "", join(target, name));
    await writeFile(join(target, "order.json"), JSON.stringify({ libraries: order, packages: closure.packages }));
    await writeFile(join(target, "lavapipe.json"), await driverManifest(tree));
  }

  /** The system's other settings are left out, but for how it reaches the network: hooks would run, pins would bind. */
  async #configure(sources: readonly AptSource[]): Promise<void> {
    const dump = await this.#run("apt-config", ["dump"], this.#folder, false);
    const network = /^Acquire::(http|https|ftp|socks|Check-Date|Check-Valid-Until|ForceIPv[46]|Proxy)\b.*;$/i;
    await mkdir(join(this.#folder, "lists/partial"), { recursive: true });
    await mkdir(join(this.#folder, "archives/partial"), { recursive: true });
    await writeFile(join(this.#folder, "status"), "");
    await writeFile(join(this.#folder, "own.sources"), printSources(sources, this.#release.architecture));
    const settings = {
      "Dir::State": this.#folder,
      "Dir::State::status": join(this.#folder, "status"),
      "Dir::Cache": this.#folder,
      "Dir::Etc::SourceList": join(this.#folder, "own.sources"),
      "Dir::Etc::SourceParts": "/dev/null",
      "Dir::Etc::Parts": "/dev/null",
      "Dir::Etc::Main": "/dev/null",
      "Dir::Etc::Preferences": "/dev/null",
      "Dir::Etc::PreferencesParts": "/dev/null",
      "APT::Architecture": this.#release.architecture,
      "APT::Install-Recommends": "false",
      // apt as root would hand the download to a user who cannot reach this folder.
      "APT::Sandbox::User": process.getuid?.() === 0 ? "root" : "_apt",
      "Acquire::Languages": "none",
      "Acquire::Retries": "1",
      "Acquire::http::Timeout": "10",
      "Acquire::https::Timeout": "10",
    };
    const own = Object.entries(settings).map(([name, value]) => `${name} "${value}";`);
    const lines = [...dump.split("\n").filter((line) => network.test(line)), ...own];
    await writeFile(join(this.#folder, "apt.conf"), `${lines.join("\n")}\n`);
  }

  async #run(command: string, parameters: readonly string[], folder = this.#folder, own = true): Promise<string> {
    const settings = own ? { APT_CONFIG: join(this.#folder, "apt.conf") } : {};
    const environment = { ...process.env, ...settings, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
    try {
      const options = { cwd: folder, env: environment, signal: this.#signal, maxBuffer: 1 << 24 };
      const { stdout, stderr } = await promisify(execFile)(command, [...parameters], options);
      // `update` succeeds with warnings when no archive answers.
      const failure =
        command === "apt-get" && parameters[0] === "update" && /^W: (Failed to fetch .*)/m.exec(stderr)?.[1];
      if (failure && !(await this.#hasLists())) throw new Error(failure);
      return stdout;
    } catch (error) {
      this.#signal.throwIfAborted();
      const complaint = /^E: (.*)/m.exec((error as { stderr?: string }).stderr ?? "")?.[1];
      throw new DeviceError(`${command} ${parameters[0] ?? ""}: ${complaint ?? firstLine(error)}`, { cause: error });
    }
  }

  async #hasLists(): Promise<boolean> {
    return (await readdir(join(this.#folder, "lists"))).some((name) => name.includes("_Packages"));
  }
}

/** Reads `apt-cache madison`: which archive offers which version, newest first. */
export function parseMadison(text: string): { version: string; suite: string }[] {
  return [...text.matchAll(/^\s*\S+ \| (\S+) \| \S+ ([^/\s]+)\/\S* \S+ Packages$/gm)].map((match) => ({
    version: match[1] ?? "",
    suite: match[2] ?? "",
  }));
}

/** Reads `apt-get -s install`: the packages with libraries in them, which are those built for a processor. */
export function parseSimulation(text: string): { name: string; version: string }[] {
  return [...text.matchAll(/^Inst ([a-z0-9][a-z0-9.+-]*) \(([\w.:~+-]+) .*\[(?!all\])\w+\]\)/gm)]
    .map((match) => ({ name: match[1] ?? "", version: match[2] ?? "" }))
    .filter(({ name }) => !OF_THE_SYSTEM.has(name) && !/^gcc-.*-base$/.test(name));
}

/**
 * Orders libraries so that each comes after those it needs.
 *
 * @param roots      sonames to begin with
 * @param libraries  path of each soname; one that is not in it is the system's to give
 */
export async function loadOrder(roots: readonly string[], libraries: ReadonlyMap<string, string>): Promise<string[]> {
  const order = new Set<string>();
  const entered = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    const path = libraries.get(name);
    if (path === undefined || entered.has(name)) return;
    entered.add(name);
    for (const needed of await neededLibraries(path)) await visit(needed);
    order.add(name);
  };
  for (const root of roots) {
    if (!libraries.has(root)) throw new DeviceError(`the packages fetched do not hold ${root}`);
    await visit(root);
  }
  return [...order];
}

async function librariesIn(tree: string): Promise<Map<string, string>> {
  const libraries = new Map<string, string>();
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true })) {
    if (!/^lib[\w.+-]*\.so(\.\d+)*$/.test(entry.name)) continue;
    const path = await realpath(join(entry.parentPath, entry.name)).catch(() => undefined);
    if (path?.startsWith(`${await realpath(tree)}/`)) libraries.set(entry.name, path);
  }
  return libraries;
}

/** Mesa's own manifest, but that the driver lies beside it: the folder may be moved. */
async function driverManifest(tree: string): Promise<string> {
  const folder = join(tree, "usr/share/vulkan/icd.d");
  const name = (await readdir(folder)).find((each) => each.startsWith("lvp_icd"));
  const manifest = JSON.parse(await readFile(join(folder, name ?? "lvp_icd.json"), "utf8")) as { ICD: object };
  return JSON.stringify({ ...manifest, ICD: { ...manifest.ICD, library_path: `./${DRIVER}` } });
}

async function systemSources(): Promise<AptSource[]> {
  const folder = "/etc/apt/sources.list.d";
  const names = (await readdir(folder).catch(() => [])).map((name) => join(folder, name));
  const texts = ["/etc/apt/sources.list", ...names].map(async (name) => {
    const text = await readFile(name, "utf8").catch(() => "");
    if (name.endsWith(".list")) return parseOneLineSources(text);
    return name.endsWith(".sources") ? parseStanzaSources(text) : [];
  });
  return (await Promise.all(texts)).flat();
}
