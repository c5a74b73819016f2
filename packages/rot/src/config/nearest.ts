/** The word that somebody probably meant. */

/** Letters that must be changed, put in or taken out to turn one word into the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** The nearest of some words, or undefined where none is near. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const short = word.slice(0, 64);
  const ranked = words.map((candidate) => ({ candidate, far: distance(short, candidate) }));
  const best = ranked.toSorted((a, b) => a.far - b.far)[0];
  return best && best.far <= Math.max(2, best.candidate.length / 3) ? best.candidate : undefined;
}

/** What transformers, TRL, PEFT and LLaMA-Factory call our keys. */
export const namesOfOthers: ReadonlyMap<string, string> = new Map([
  ["model_name_or_path", "model"],
  ["output_dir", "output"],
  ["learning_rate", "optimizer.lr"],
  ["lr_scheduler_type", "optimizer.schedule"],
  ["adam_epsilon", "optimizer.eps"],
  ["per_device_train_batch_size", "training.batch_size"],
  ["num_train_epochs", "training.num_epochs"],
  ["gradient_checkpointing", "training.recompute"],
  ["finetuning_type", "stage2.mode"],
  ["lora_r", "lora.r"],
  ["lora_rank", "lora.r"],
  ["lora_alpha", "lora.alpha"],
  ["lora_dropout", "lora.dropout"],
  ["lora_target", "lora.target_modules"],
  ["lora_target_modules", "lora.target_modules"],
  ["projection_hidden_dim", "head.hidden"],
  ["cutoff_len", "data.max_length"],
  ["max_seq_length", "data.max_length"],
  ["val_size", "data.validation_share"],
  ["save_steps", "checkpoint.every"],
  ["save_interval", "checkpoint.every"],
  ["save_total_limit", "checkpoint.keep_last"],
  ["eval_steps", "validation.every"],
  ["early_stopping_patience", "validation.patience"],
]);
