/** Compute pipelines, one for each specialised source. Tensors are bound as group 0, the uniforms as group 1. */
import { KernelError } from "../errors.ts";
import { STAGE_COMPUTE } from "./constants.ts";
import type { Faults } from "./faults.ts";
import type { Uniforms } from "./uniforms.ts";

/** How a kernel sees each of its bindings, in order. */
export type Access = "read" | "write";

export interface Pipeline {
  /** Never reused: bind groups are cached under it. */
  readonly id: number;
  readonly name: string;
  readonly gpu: GPUComputePipeline;
  /** Of group 0. */
  readonly layout: GPUBindGroupLayout;
  /** Bytes of the uniform struct, 0 without one. */
  readonly uniformBytes: number;
  /** Why it did not compile, once that is known. */
  fault: KernelError | undefined;
}

export interface PipelineSource {
  readonly name: string;
  readonly code: string;
  readonly access: readonly Access[];
  readonly uniformBytes: number;
  /** Shapes and dtypes of the first call, for the error if it does not compile. */
  readonly call: string;
}

export class Pipelines {
  readonly #gpu: GPUDevice;
  readonly #faults: Faults;
  readonly #uniforms: Uniforms;
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();

  constructor(gpu: GPUDevice, faults: Faults, uniforms: Uniforms) {
    this.#gpu = gpu;
    this.#faults = faults;
    this.#uniforms = uniforms;
  }

  /** The pipeline of a source, compiled at its first use. A compile error surfaces at the next wait for the device. */
  get(source: PipelineSource): Pipeline {
    const key = `${source.access.join()}:${source.uniformBytes}:${source.code}`;
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(source);
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  #compile({ name, code, access, uniformBytes, call }: PipelineSource): Pipeline {
    const layout = this.#layout(access);
    const bindGroupLayouts = uniformBytes > 0 ? [layout, this.#uniforms.layout(uniformBytes)] : [layout];
    let module: GPUShaderModule | undefined;
    const gpu = this.#faults.watch(
      "validation",
      () => {
        module = this.#gpu.createShaderModule({ label: name, code });
        return this.#gpu.createComputePipeline({
          label: name,
          layout: this.#gpu.createPipelineLayout({ label: name, bindGroupLayouts }),
          compute: { module },
        });
      },
      async (why) => {
        pipeline.fault = new KernelError(`${name} ${call}: ${await compileMessage(module, code, why)}`);
        return pipeline.fault;
      },
    );
    const pipeline: Pipeline = { id: this.#pipelines.size, name, gpu, layout, uniformBytes, fault: undefined };
    return pipeline;
  }

  #layout(access: readonly Access[]): GPUBindGroupLayout {
    const key = access.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      layout = this.#gpu.createBindGroupLayout({
        entries: access.map((kind, binding) => ({
          binding,
          visibility: STAGE_COMPUTE,
          buffer: { type: kind === "read" ? "read-only-storage" : "storage" },
        })),
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }
}

/** The compiler's first error with the lines of WGSL around it, or WebGPU's own words when it is not the compiler's. */
async function compileMessage(module: GPUShaderModule | undefined, code: string, why: string): Promise<string> {
  const messages = (await module?.getCompilationInfo())?.messages ?? [];
  const error = messages.find((message) => message.type === "error");
  if (!error || error.lineNum === 0) return why;
  const lines = code.split("\n");
  const from = Math.max(0, error.lineNum - 3);
  const excerpt = lines
    .slice(from, error.lineNum + 2)
    .map((line, i) => `${from + i + 1 === error.lineNum ? ">" : " "} ${String(from + i + 1).padStart(4)} | ${line}`);
  return `WGSL line ${error.lineNum}:${error.linePos}: ${error.message}\n${excerpt.join("\n")}`;
}
