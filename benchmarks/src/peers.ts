/** Which engines there are, and how each is started. `peers/setup.mjs` installs them. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Peer, PeerKind, Peers } from "@rot/cli/bench";
import { canHold, startPeer } from "./peer-process.ts";
import { vulkanEnvironment } from "./vulkan-environment.ts";

const folder = fileURLToPath(new URL("../peers/", import.meta.url));
const python = `${folder}.venv/bin/python`;

interface Engine {
  readonly kind: PeerKind;
  /** The file of its driver, and what it is told. */
  readonly driver: readonly string[];
  /** What must be there. */
  readonly needs: string;
}

const javascript = (kind: PeerKind, driver: string, backend: string, needs: string): Engine => ({
  kind,
  driver: [driver, backend],
  needs: `${folder}node_modules/${needs}/package.json`,
});

/** By name. */
const engines: Readonly<Record<string, Engine>> = {
  "jax-js-webgpu": javascript("webgpu", "jax-js.mjs", "webgpu", "@jax-js/jax"),
  "tfjs-webgpu": javascript("webgpu", "tfjs.mjs", "webgpu", "@tensorflow/tfjs"),
  "onnxruntime-webgpu": javascript("webgpu", "onnxruntime.mjs", "webgpu", "onnxruntime-node"),
  "tinygrad-webgpu": { kind: "webgpu", driver: ["tinygrad_webgpu.py"], needs: python },
  "jax-js-wasm": javascript("wasm", "jax-js.mjs", "wasm", "@jax-js/jax"),
  "tfjs-wasm": javascript("wasm", "tfjs.mjs", "wasm", "@tensorflow/tfjs"),
  "onnxruntime-cpu": javascript("cpu", "onnxruntime.mjs", "cpu", "onnxruntime-node"),
  "pytorch-cpu": { kind: "cpu", driver: ["pytorch_cpu.py"], needs: python },
  "numpy-cpu": { kind: "cpu", driver: ["numpy_cpu.py"], needs: python },
};

const INSTALL = "not installed; npm run peers does that";

/** Where an engine that waits cannot be held, it must not keep the cores busy: others are being timed. */
const QUIET = canHold ? {} : { OMP_WAIT_POLICY: "PASSIVE", KMP_BLOCKTIME: "0" };

/** Every engine. */
export const peers: Peers = {
  names: Object.keys(engines),
  async start(names) {
    const running: Peer[] = [];
    const missing: { name: string; why: string }[] = [];
    for (const name of names) {
      const { kind, driver, needs } = engines[name] as Engine;
      if (!existsSync(needs)) {
        missing.push({ name, why: INSTALL });
        continue;
      }
      const env = { ...QUIET, ...(kind === "webgpu" && vulkanEnvironment()) };
      const program = driver[0]?.endsWith(".py") ? python : process.execPath;
      try {
        running.push(await startPeer(name, kind, [program, ...driver], { folder, env }));
      } catch (error) {
        missing.push({ name, why: (error as Error).message });
      }
    }
    return { running, missing };
  },
};
