"""Writes small files with the reference's own serializer, for byte-for-byte comparison.

    pip install safetensors==0.8.0 numpy
    python3 packages/tensor/test/tools/safetensors-fixtures.py packages/tensor/test/data/safetensors

Byte i of every tensor is i * 7 mod 251. Files have one metadata key at most: the reference leaves their order to chance.
"""

import pathlib
import sys

import numpy
from safetensors import TensorSpec, serialize_file

# The serializer's names for all dtypes that it writes from Python, with their bits.
DTYPES = {
    "bool": 8, "float4_e2m1fn_x2": 8, "uint8": 8, "int8": 8, "float8_e5m2": 8, "float8_e4m3fn": 8, "float8_e8m0fnu": 8,
    "float8_e4m3fnuz": 8, "float8_e5m2fnuz": 8, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16, "int32": 32,
    "uint32": 32, "float32": 32, "complex64": 64, "float64": 64, "int64": 64, "uint64": 64,
}

# Sorted by UTF-8 bytes, U+FFFD stands before U+1F600; by UTF-16 units, after it.
NAMES = ["", "a", "B", "ab", "a.b", "../../x", "__proto__", "\u00e9", "\ufffd", "\U0001f600", "\U00010000"]
NAMES += ['q"\\/\b\f\n\r\t\x01\x1f\x7f\u2028']


def write(path, tensors, metadata=None):
    buffers = []
    specs = {}
    for name, dtype, shape in tensors:
        size = int(numpy.prod(shape, dtype=numpy.int64)) * DTYPES[dtype] // 8
        data = (numpy.arange(size, dtype=numpy.int64) * 7 % 251).astype(numpy.uint8)
        buffers.append(data)
        specs[name] = TensorSpec(dtype=dtype, shape=shape, data_ptr=data.ctypes.data, data_len=size)
    serialize_file(specs, path, metadata)


def main():
    folder = pathlib.Path(sys.argv[1])
    write(folder / "dtypes.safetensors", [(f"t_{name}", name, [3, 2]) for name in DTYPES], {"format": "pt"})
    write(folder / "names.safetensors", [(name, "uint8", [index]) for index, name in enumerate(NAMES)])
    shapes = [("scalar", "float32", []), ("none", "int64", [3, 0]), ("odd", "bool", [7]), ("deep", "float16", [1, 2, 1, 3])]
    write(folder / "shapes.safetensors", shapes, {'"k"\n': "\u00e9\x00"})
    write(folder / "empty.safetensors", [])
    # With no tensor at all the reference writes `{},"__metadata__":{}`, which it then cannot read.
    write(folder / "empty-metadata.safetensors", [("a", "uint8", [1])], {})


main()
