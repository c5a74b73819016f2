import { checkOp } from "@rot/tensor/testing";
import { cases } from "./rms-norm.cases.ts";
checkOp(cases);
