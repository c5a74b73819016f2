/** The tuner: finds the setting of each kernel that is fastest on an adapter, among those that give the same result. */
export { type Call, collectCalls, type Collector, freeCall } from "./calls.ts";
export { type Candidate, type Measured, measureCall, type MeasureOptions } from "./measure.ts";
export { type Problem, problems } from "./problems.ts";
export { choicesOf, printSetting, startTuning, tuneCalls, type Tuning, withTuning } from "./tune.ts";
