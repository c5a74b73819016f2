/**
 * Installs the engines that `npm run bench -- --peers` measures ours against, into this folder.
 *
 *     npm run peers -- [javascript] [python]
 *
 * Without a word it installs both. PyTorch takes gigabytes and Python 3.11; the rest about 750 MB.
 */
import { spawnSync } from "node:child_process";

const folder = import.meta.dirname;
const known = ["javascript", "python"];
const wanted = process.argv.slice(2);
const unknown = wanted.find((word) => !known.includes(word));
if (unknown !== undefined) {
  console.error(`setup.mjs: there is no "${unknown}"; say ${known.join(" or ")}`);
  process.exit(2);
}

/** What is installed by which commands. */
const steps = {
  javascript: [["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]],
  python: [
    ["python3", "-m", "venv", ".venv"],
    [".venv/bin/python", "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"],
  ],
};

let failed = false;
for (const name of wanted.length > 0 ? wanted : known) {
  for (const [program, ...args] of steps[name]) {
    console.log([program, ...args].join(" "));
    // The other files of onnxruntime-node are for CUDA.
    const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL_CUDA: "skip" };
    const { status, error } = spawnSync(program, args, { cwd: folder, env, stdio: "inherit" });
    if (status === 0) continue;
    console.error(`${name} is not installed: ${error?.message ?? `${program} ended with ${status}`}`);
    failed = true;
    break;
  }
}
process.exitCode = failed ? 1 : 0;
