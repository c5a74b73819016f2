/** Markers that learn: their rows as parameters, while the token tables stay as they are. */
import type { Pretrained } from "@rot/models";
import { requireGrad, type Tensor } from "@rot/tensor";
import type { TokenRows } from "../latent/token-rows.ts";
import type { MarkerRecord } from "./config.ts";
import { EMBEDDING_KEY, type MarkerRows, readMarkers, writeMarkers } from "./markers.ts";

/** `<img_begin>` and `<img_end>` as parameters. `<img>` stands nowhere. */
export interface TrainedMarkers {
  /** [D] each in f32, by the names of `markers.safetensors`. */
  readonly parameters: MarkerRows;
  readonly rows: TokenRows;
  /** Writes them into the tables, from which everything that is not taped reads them. */
  readonly place: () => void;
}

/**
 * The markers of a model, to be trained.
 *
 * @returns  parameters that hold what the tables hold now; they are the caller's to dispose
 */
export function trainMarkers({ weights, config }: Pretrained, markers: MarkerRecord): TrainedMarkers {
  const parameters = new Map<string, Tensor>();
  for (const [name, row] of readMarkers(weights, markers)) {
    if (name.endsWith("img")) row.dispose();
    else parameters.set(name, requireGrad(row));
  }
  const of = (prefix: string): Tensor[] =>
    ["img_begin", "img_end"].map((name) => parameters.get(prefix + name) as Tensor);
  return {
    parameters,
    rows: {
      ids: [markers.begin, markers.end],
      embedding: of(""),
      head: of(config.text.tied ? "" : "lm_head."),
      dtype: (weights.get(EMBEDDING_KEY) as Tensor).dtype,
    },
    place: () => writeMarkers(weights, markers, parameters),
  };
}
