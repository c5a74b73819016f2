/** Parameters without a checkpoint: every one a function of a seed and its name. */
import {
  type Device,
  keep,
  key,
  ones,
  randn,
  scope,
  type Seed,
  type Shape,
  size,
  type Tensor,
  untaped,
  zeros,
} from "@rot/tensor";
import { emptyTensor } from "@rot/tensor/kernel";
import type { TensorSource } from "@rot/tensor/safetensors";
import type { Architecture } from "./architecture.ts";
import type { FloatDType } from "./checkpoint.ts";
import { copyInto, type Range, ranges, readBytes } from "./pieces.ts";

/** How parameters are drawn. */
export interface InitOptions {
  readonly seed: Seed;
  /** bf16 by default, as checkpoints are published. */
  readonly dtype?: FloatDType;
  /** The deviation of matrices; 0.02 by default, as `initializer_range` of the published configs. */
  readonly std?: number;
}

/**
 * A model's parameters, drawn as transformers draws them: matrices and tables normal with deviation `std`, biases 0, gains
 * of norms 1. The same seed and name give the same values whatever the rest of the model is.
 *
 * @returns  the tensors by key, in the model's order and in no scope
 */
export function randomInit(architecture: Architecture, device: Device, options: InitOptions): Map<string, Tensor> {
  // One scope, so that none stays when there is no room for all.
  const made = scope(() =>
    [...architecture.parameters].map(([name, shape]) => [name, draw(device, name, shape, options)] as const),
  );
  return new Map(keep(made));
}

/** The same parameters as {@link randomInit} makes, for a file: each piece is drawn when its turn comes to be written. */
export function randomSources(architecture: Architecture, device: Device, options: InitOptions): TensorSource[] {
  const dtype = ({ bf16: "BF16", f16: "F16", f32: "F32" } as const)[options.dtype ?? "bf16"];
  return [...architecture.parameters].map(([name, shape]) => ({
    name,
    dtype,
    shape,
    async *data() {
      for (const piece of ranges(size(shape))) {
        const drawn = keep(drawPiece(device, name, shape, piece, options));
        try {
          yield await readBytes(drawn);
        } finally {
          drawn.dispose();
        }
      }
    },
  }));
}

function draw(device: Device, name: string, shape: Shape, options: InitOptions): Tensor {
  const target = emptyTensor(device, { shape, dtype: options.dtype ?? "bf16" }, "randomInit");
  for (const piece of ranges(target.size)) {
    scope(() => untaped(() => copyInto(target, piece.begin, drawPiece(device, name, shape, piece, options))));
  }
  return target;
}

/** Some elements of a parameter, on one axis. Every piece has numbers of its own: a draw counts its elements from 0. */
function drawPiece(
  device: Device,
  name: string,
  shape: Shape,
  { index, begin, end }: Range,
  { seed, dtype = "bf16", std = 0.02 }: InitOptions,
): Tensor {
  const length = [end - begin];
  if (shape.length >= 2) return randn(device, length, { seed: key(seed).for(name).at(index), dtype, std });
  return name.endsWith(".bias") ? zeros(device, length, dtype) : ones(device, length, dtype);
}
