"""The digest of a manifest: one hash of what it says about its clips, however the file was written."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def digest(table: pa.Table) -> str:
    """Return the SHA-256, as 64 hex digits, of a table that is sorted by clip_id.

    The hashed bytes, with all numbers little-endian:

    1. ``avfeat manifest digest 1`` and a line feed, in ASCII;
    2. the number n of clips as uint64;
    3. for each column of the schema, in the schema's order, unless all its values are null: its name, a line feed, and

       - n bytes, 1 where the value is there and 0 where it is null, then
       - text: n uint64 lengths in UTF-8 bytes, then all the bytes end to end;
       - whole numbers and booleans: n int64;
       - other numbers: n float64, with -0.0 written as 0.0;
       - segments: n uint64 counts, then all starts end to end as float64, then all ends;

       where a null counts as an empty text, 0, or an empty list.

    Every column of the schema counts; dataset name, version, root, source and licence do not. Clips are in the order of
    their ids' UTF-8 bytes; the order of the segments within a clip counts. Columns without values are left out, so that
    a later schema with more columns gives old manifests the digest they had.
    """
    state = hashlib.sha256(b"avfeat manifest digest 1\n")
    state.update(np.uint64(len(table)).astype("<u8").tobytes())
    for name in table.column_names:
        column = table[name]
        if column.null_count < len(column):
            state.update(f"{name}\n".encode())
            state.update(pc.is_valid(column).combine_chunks().cast(pa.uint8()).to_numpy().data)
            _add_values(state, column.combine_chunks())
    return state.hexdigest()


def _add_values(state: Any, values: pa.Array) -> None:
    if pa.types.is_string(values.type):
        texts = pc.fill_null(values, "")
        _add_numbers(state, pc.binary_length(texts), "<u8")
        state.update(_text_bytes(texts))
    elif pa.types.is_list(values.type):
        _add_numbers(state, pc.fill_null(pc.list_value_length(values), 0), "<u8")
        parts = pc.list_flatten(values)
        for index in range(parts.type.num_fields):
            _add_values(state, pc.struct_field(parts, index))
    elif pa.types.is_floating(values.type):
        _add_numbers(state, pc.add(pc.fill_null(values, 0.0), 0.0), "<f8")
    else:
        _add_numbers(state, pc.fill_null(values, 0 if not pa.types.is_boolean(values.type) else False), "<i8")


def _add_numbers(state: Any, values: pa.Array, form: str) -> None:
    state.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False).astype(form)).data)


def _text_bytes(texts: pa.Array) -> memoryview:
    """Return the UTF-8 bytes of all texts end to end, as they lie in the array."""
    _, offsets, data = texts.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32, count=len(texts) + 1, offset=4 * texts.offset)
    return memoryview(data)[int(ends[0]) : int(ends[-1])]
