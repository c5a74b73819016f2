/**
 * Dawn's Node binding looks for news of the device in every turn of the event loop, as long as somebody waits. That keeps
 * a core busy, which a software adapter would rather compute with; so between the turns the thread sleeps.
 */

/** Sleeps grow with the wait, so that they add an eighth to it at most; and up to here, so that the event loop goes on. */
const LONGEST_MILLISECONDS = 0.5;

const never = new Int32Array(new SharedArrayBuffer(4));
let waits = 0;
let began = 0;
let sleeping = false;

/** Called when somebody begins to wait for a software adapter; what it returns is called at the end. */
export function rest(): () => void {
  waits++;
  began = performance.now();
  if (!sleeping) setImmediate(nap);
  sleeping = true;
  return () => {
    waits--;
  };
}

function nap(): void {
  sleeping = waits > 0;
  if (!sleeping) return;
  Atomics.wait(never, 0, 0, Math.min((performance.now() - began) / 8, LONGEST_MILLISECONDS));
  setImmediate(nap);
}
