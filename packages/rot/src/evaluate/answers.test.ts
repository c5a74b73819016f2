import { expect, test } from "vitest";
import { answersEqual, checkAnswer, extractAnswer, referenceAnswer } from "./answers.ts";
import { numberOf } from "./numbers.ts";

test.for<[string, number | null]>([
  ["18", 18],
  ["-5", -5],
  ["- 5", -5],
  ["−5", -5],
  ["+7", 7],
  ["1,000", 1000],
  ["12,345,678.90", 12345678.9],
  ["1000", 1000],
  ["3/4", 0.75],
  ["-3/4", -0.75],
  ["3/-4", -0.75],
  ["1 1/2", 1.5],
  ["1\\frac{1}{2}", 1.5],
  ["\\frac{1}{2}", 0.5],
  ["\\dfrac12", 0.5],
  ["-\\frac{7}{8}", -0.875],
  ["\\frac{-7}{8}", -0.875],
  ["50%", 50],
  ["50\\%", 50],
  ["$18", 18],
  ["-$18", -18],
  ["$-18", -18],
  ["18 dollars", 18],
  ["$18$", 18],
  ["€3.50", 3.5],
  ["5 km/h", 5],
  ["12 square feet", 12],
  ["90^\\circ", 90],
  ["10\\text{ cm}", 10],
  ["1{,}234", 1234],
  ["x = 5", 5],
  ["1e5", 100000],
  [".5", 0.5],
  ["5.", 5],
  ["18 ", 18],
  ["", null],
  ["abc", null],
  ["3 + 4", null],
  ["x+1", null],
  ["1/0", null],
  ["(1, 2)", null],
  ["1,23", null],
  ["1.5e-3", 0.0015],
  ["1.5 × 10^3", 1500],
  ["-2\\times10^{-3}", -0.002],
  ["1 000", 1000],
  ["12\\,345.5", 12345.5],
  ["1 000 1", null],
  ["2 million", 2_000_000],
  ["7½", 7.5],
  ["２５", 25],
  ["(5)", 5],
  ["**5**", 5],
  ["\\(5\\)", 5],
  ["≈ 5", 5],
  ["about 5 km", 5],
  ["USD 5", 5],
  ["10¢", 10],
  ["20°C", 20],
  ["18元", 18],
  ["3 * 6 = 18", 18],
  ["5 a day", 5],
  ["3x", null],
  ["3 x", null],
  ["2xy", null],
  ["3x^2", null],
  ["6\\pi", null],
  ["5k", null],
  ["3 or 4", null],
])("%s is the number %s", ([text, value]) => {
  expect(numberOf(text)).toBe(value);
});

test.for<[string, string | null]>([
  ["assistant\n### 18 ", "18"],
  ["### -5 <|im_end|>", "-5"],
  ["16 - 3 - 4 = 9\n#### 1,234", "1,234"],
  ["so $M=\\boxed{2220}$.", "2220"],
  ["\\boxed{1} and then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"],
  ["The answer is: 42.", "42"],
  ["The answer is 42 apples, of 50.", "42"],
  ["The answer is 3 + 2 = 5 because 9 - 4 is.", "5"],
  ["The answer is 18. So of 20 there are 2 left", "18"],
  ["The final answer is: **18**.", "18"],
  ["**Answer:** 18 apples, of 20", "18"],
  ["Let me answer step by step.\n3 + 4 = 7\nAnd 7 + 1 = 8", "8"],
  ["The answer is Evelyn.", "Evelyn"],
  ["### Step 1: add\n3 + 4 = 7\n### Final Answer\n\n\\boxed{7}", "7"],
  ["3 + 4 = 7\n### Answer: 7 apples", "7"],
  ["### **7**", "7"],
  ["2 * 10^3", "2 * 10^3"],
  ["Answer: -3/4", "-3/4"],
  ["Therefore, she has 3 apples and 5 pears = 8", "8"],
  ["16-3-4=9", "9"],
  ["答案是：12", "12"],
  ["###", "###"],
  ["", null],
  ["no number at all", "no number at all"],
  ["\\boxed{7", "7"],
])("in %j the answer is %j", ([text, answer]) => {
  expect(extractAnswer(text)).toBe(answer);
});

test.for<[string, string, boolean]>([
  ["assistant\n### 18 ", "18", true],
  ["### -5", "5", false],
  ["### 1,000", "1000", true],
  ["### 3/4", "0.75", true],
  ["### 50%", "50%", true],
  ["### \\frac{1}{2}", "\\boxed{0.5}", true],
  ["### $18.00", "18", true],
  ["### 18.01", "18", false],
  ["### x + 1", "x+1", true],
  ["### (A)", "(a)", true],
  ["### \\text{Evelyn}", "Evelyn", true],
  ["### 2\\sqrt{3}", "2\\sqrt{ 3 }", true],
  ["### 12 apples", "12", true],
  ["### 3x", "3", false],
  ["### 3x", "2x", false],
  ["### 3x^2", "3x^3", false],
  ["### 3x", "$3x$", true],
  ["### A", "\\text{(A)}", true],
  ["### 2 million", "2", false],
  ["### -0", "0", true],
  ["", "12", false],
  ["### 12", "twelve", false],
  ["### 123456789", "123456788", false],
])("%j for %j is %s", ([prediction, truth, correct]) => {
  expect(checkAnswer(prediction, truth).correct).toBe(correct);
});

test("equality is symmetric", () => {
  for (const [a, b] of [
    ["1/2", "0.5"],
    ["50%", "50"],
    ["abc", "ABC."],
    ["7", "seven"],
  ] as const) {
    expect(answersEqual(a, b)).toBe(answersEqual(b, a));
  }
});

test.for<[string, string]>([
  ["assistant\n### 18 ", "18"],
  ["-5", "5"],
  ["1,000", "000"],
  ["$1,234", "1"],
  ["3/4", "4"],
  ["Therefore, she has 3 apples and 5 pears = 8", "3"],
  ["50%", "50%"],
  ["assistant\n### 50%", "assistant\n### 50%"],
  ["### 5.", "### 5."],
  ["#### 5. and 6", "5"],
  ["Answer: 7 of 8", "7"],
])("the reference extracts from %j the answer %j", ([text, answer]) => {
  expect(referenceAnswer(text)).toBe(answer);
});

test("the reference rule compares as published: without signs, and texts letter by letter", () => {
  expect(checkAnswer("### -5", "5", "reference").correct).toBe(true);
  expect(checkAnswer("### 5.0", "5", "reference").correct).toBe(true);
  expect(checkAnswer("assistant\n### 50%", "50%", "reference").correct).toBe(false);
});

test("a text of 100,000 characters is no trap", () => {
  for (const text of [
    "1,".repeat(50_000),
    "\\frac{".repeat(16_000),
    "{".repeat(100_000),
    " ".repeat(100_000) + "x",
    "1 ".repeat(50_000),
    "a-".repeat(50_000),
    `x=${" ".repeat(100_000)}!`,
    "1 000".repeat(20_000),
    "* ".repeat(50_000),
    "$".repeat(100_000),
  ]) {
    expect(checkAnswer(text, "no").correct).toBe(false);
    expect(checkAnswer(text, "no", "reference").correct).toBe(false);
  }
});
