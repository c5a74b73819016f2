/** The methods of iterators that jax-js calls and Node 20 lacks. */
const prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));

/** Those that give another iterator. */
const lazy = {
  *map(f) {
    let i = 0;
    for (const x of this) yield f(x, i++);
  },
  *filter(f) {
    let i = 0;
    for (const x of this) if (f(x, i++)) yield x;
  },
  *flatMap(f) {
    let i = 0;
    for (const x of this) yield* f(x, i++);
  },
};

/** Those that use the iterator up are as good on an array. */
const eager = ["every", "find", "forEach", "reduce", "some"].map((name) => [
  name,
  function (...args) {
    return [...this][name](...args);
  },
]);

const toArray = [
  "toArray",
  function () {
    return [...this];
  },
];

for (const [name, method] of [...Object.entries(lazy), ...eager, toArray]) prototype[name] ??= method;
