/**
 * Writes small ONNX graphs of f32 tensors, so that no other tool is needed to make them.
 *
 * @see https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, whose field numbers these are
 */

/** A number in groups of seven bits, the lowest first. Negative ones take ten bytes. */
function varint(value) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}

const integer = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field, content) => Buffer.concat([varint((field << 3) | 2), varint(content.length), content]);
const text = (field, content) => bytes(field, Buffer.from(content));
const message = (field, parts) => bytes(field, Buffer.concat(parts));

function float(field, value) {
  const content = Buffer.alloc(4);
  content.writeFloatLE(value);
  return Buffer.concat([varint((field << 3) | 5), content]);
}

const [FLOAT, FLOAT_ATTRIBUTE, INT_ATTRIBUTE] = [1, 1, 2];

const attribute = ([name, value]) =>
  typeof value === "number"
    ? message(5, [text(1, name), integer(3, value), integer(20, INT_ATTRIBUTE)])
    : message(5, [text(1, name), float(2, value.float), integer(20, FLOAT_ATTRIBUTE)]);

const node = ({ op, domain, inputs, output, attributes = {} }) =>
  message(1, [
    ...inputs.map((name) => text(1, name)),
    text(2, output),
    text(4, op),
    ...Object.entries(attributes).map(attribute),
    ...(domain ? [text(7, domain)] : []),
  ]);

const tensor = (name, { shape, values }) =>
  message(5, [
    ...shape.map((n) => integer(1, n)),
    integer(2, FLOAT),
    text(8, name),
    bytes(9, Buffer.from(values.buffer, values.byteOffset, values.byteLength)),
  ]);

const value = (field, name, shape) => {
  const axes = message(
    2,
    shape.map((n) => message(1, [integer(1, n)])),
  );
  return message(field, [text(1, name), message(2, [message(1, [integer(1, FLOAT), axes])])]);
};

/**
 * A model as a file holds it.
 *
 * @param nodes    { op, domain, inputs, output, attributes }: whole numbers, or { float }
 * @param inputs   shapes by name
 * @param weights  { shape, values } by name
 * @param output   the shape of `y`
 */
export function encodeModel({ nodes, inputs, weights, output }) {
  const graph = [
    ...nodes.map(node),
    text(2, "graph"),
    ...Object.entries(weights).map(([name, weight]) => tensor(name, weight)),
    ...Object.entries(inputs).map(([name, shape]) => value(11, name, shape)),
    value(12, "y", output),
  ];
  return Buffer.concat([
    integer(1, 10), // version of the format
    message(7, graph),
    message(8, [text(1, ""), integer(2, 21)]),
    message(8, [text(1, "com.microsoft"), integer(2, 1)]),
  ]);
}
