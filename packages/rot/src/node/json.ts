/** JSON that may be torn: of a file that a kill has cut, or of somebody else. */

/** What a text says; null where it is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
