/** The system's own list of package archives, in both forms that apt reads. */

/** One archive, with what is needed to fetch from it and to check its signature. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** The keyring's path, or the key itself over several lines; without it, apt's trusted keys. */
  readonly signedBy?: string | undefined;
  /** `no` for a snapshot archive, whose signed dates are long past. */
  readonly checkValidUntil?: string | undefined;
}

/** Reads `deb [option=value ...] URI SUITE COMPONENT...` lines; what is not of that form is left out. */
export function parseOneLineSources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    if (!match) continue;
    const [, options = "", uri = "", suite = "", components = ""] = match;
    const settings = new Map(
      options.split(/\s+/).map((each) => {
        const at = each.indexOf("=");
        return [each.slice(0, at).toLowerCase(), each.slice(at + 1)] as const;
      }),
    );
    sources.push({
      uris: [uri],
      suites: [suite],
      components: words(components),
      signedBy: settings.get("signed-by"),
      checkValidUntil: settings.get("check-valid-until"),
    });
  }
  return sources;
}

/** Reads deb822 stanzas (`Types:`, `URIs:`, `Suites:` ...); disabled ones and those of sources alone are left out. */
export function parseStanzaSources(text: string): AptSource[] {
  const withoutComments = text.replaceAll("\r", "").replaceAll(/^#.*\n?/gm, "");
  return withoutComments
    .split(/\n[ \t]*\n/)
    .map(fields)
    .filter((field) => words(field.get("types")).includes("deb"))
    .filter((field) => !/^(no|false|0|off|without|disable)$/i.test(field.get("enabled") ?? "yes"))
    .map((field) => ({
      uris: words(field.get("uris")),
      suites: words(field.get("suites")),
      components: words(field.get("components")),
      signedBy: field.get("signed-by"),
      checkValidUntil: field.get("check-valid-until"),
    }));
}

/**
 * The distribution's own archives out of all: those of its release, and their backports.
 *
 * @param release  the distribution's ID and its code name, as in /etc/os-release
 */
export function releaseSources(sources: readonly AptSource[], release: { id: string; codename: string }): AptSource[] {
  const { codename } = release;
  const family = [
    codename,
    `${codename}-updates`,
    `${codename}-security`,
    `${codename}/updates`,
    `${codename}-backports`,
  ];
  return sources
    .map((source) => {
      const suites = source.suites.filter((suite) => family.includes(suite));
      const backports = suites.includes(codename) ? [`${codename}-backports`] : [];
      return {
        ...source,
        uris: source.uris.filter((uri) => !uri.startsWith("cdrom:")),
        suites: [...new Set([...suites, ...backports])],
        components: source.components.filter((component) => component === "main" || component === "universe"),
      };
    })
    .filter(({ uris, suites, components, signedBy }) => {
      // Other projects use the same suite names for archives of their own, with keys of their own.
      const ours = signedBy === undefined || /(debian|ubuntu)-archive/.test(signedBy) || signedBy.includes("\n");
      return ours && uris.length > 0 && suites.length > 0 && components.length > 0;
    });
}

/** Writes sources in the deb822 form. Only what `AptSource` holds is kept: `trusted=yes` is not. */
export function printSources(sources: readonly AptSource[], architecture: string): string {
  const stanza = ({ uris, suites, components, signedBy, checkValidUntil }: AptSource): string =>
    [
      "Types: deb",
      `URIs: ${uris.join(" ")}`,
      `Suites: ${suites.join(" ")}`,
      `Components: ${components.join(" ")}`,
      `Architectures: ${architecture}`,
      ...(signedBy === undefined ? [] : [`Signed-By: ${signedBy}`]),
      ...(checkValidUntil === undefined ? [] : [`Check-Valid-Until: ${checkValidUntil}`]),
    ].join("\n");
  return `${sources.map(stanza).join("\n\n")}\n`;
}

/** The fields of one stanza by their names in small letters; the lines that continue a field begin with a space. */
function fields(stanza: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const match of stanza.matchAll(/^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) {
    found.set((match[1] ?? "").toLowerCase(), (match[2] ?? "").trimEnd());
  }
  return found;
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
