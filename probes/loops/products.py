"""Products of float32 matrices too narrow for a BLAS: a few probes beside many frames.

A tile of the result stays in registers while its sums run. Each step takes one row of ``b`` and one number of each of
the tile's rows of ``a``, so that most instructions multiply and add.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from probes.loops.machine import address_of, compiled, prefetch_line

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
"""Float32 numbers in one register."""

SUMS = LANES
"""Registers that hold a tile's sums: half of those there are."""

WIDE, NARROW = 32, 16
"""Columns of a tile: results lie in as many columns as tiles of these widths fill."""

ROWS = 8
"""Results lie in a multiple of so many rows, into which tiles of all heights fit."""

_INDEX = ir.IntType(64)
_UNKNOWN = ir.FunctionType(_INDEX, [_INDEX])


def _tile(columns: int) -> tuple[int, Any]:
    """Return how many rows a tile of so many columns has, and what adds to it."""
    vectors = columns // LANES
    height = min(ROWS, SUMS // vectors)
    at_once = SUMS // (vectors * height)  # a sum waits for its own last step: narrow tiles sum every other step apart
    cells = [(r, n) for r in range(height) for n in range(vectors)]
    vector = ir.VectorType(ir.FloatType(), LANES)
    zero, nothing = ir.Constant(vector, None), ir.Constant(vector, ir.Undefined)
    to_all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    @intrinsic
    def add_tile(context: Any, c: Any, i: Any, j: Any, a: Any, b: Any, ahead: Any, start: Any, each: Any) -> Any:
        """Add a[i:i+height] · b[:, j:j+columns] to ``c`` from i, j on; ``a`` may be wider than ``b`` is high.

        With every step ``each`` bytes of ``ahead`` are prefetched, from byte ``start`` on.
        """

        def emit(target: Any, builder: Any, signature: Any, args: Any) -> Any:
            c_value, row, column, a_value, b_value, ahead_value, start, each_step = args
            kind = ir.FunctionType(vector, [vector] * 3)
            multiply_add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
            a_struct, b_struct = (
                target.make_array(a)(target, builder, a_value),
                target.make_array(b)(target, builder, b_value),
            )
            stop, _ = cgutils.unpack_tuple(builder, b_struct.shape)
            to_row, to_step = cgutils.unpack_tuple(builder, a_struct.strides)
            begin = builder.bitcast(a_struct.data, cgutils.voidptr_t)
            ahead_data = builder.bitcast(target.make_array(ahead)(target, builder, ahead_value).data, cgutils.voidptr_t)
            wanted = builder.gep(ahead_data, [start])
            rows = [builder.add(row, _INDEX(r)) for r in range(height)]
            # What the compiler does not know to be multiples it keeps in registers; else each row waits for the last.
            below = [builder.asm(_UNKNOWN, "", "=r,0", [builder.mul(to_row, each)], False) for each in rows]

            def across(array: Any, value: Any, at: Any) -> list[Any]:
                """Return the addresses of the vectors of one row."""
                begin = address_of(target, builder, array, value, at, column)
                places = [builder.gep(begin, [_INDEX(n * LANES)]) for n in range(vectors)]
                return [builder.bitcast(each, vector.as_pointer()) for each in places]

            def add_step(step: Any, sums: dict[Any, Any]) -> dict[Any, Any]:
                factors = [builder.load(address, align=4) for address in across(b, b_value, step)]
                prefetch_line(builder, builder.gep(wanted, [builder.mul(each_step, step)]))
                column_of_a, added = builder.gep(begin, [builder.mul(to_step, step)]), {}
                for r in range(height):
                    number = builder.load(
                        builder.bitcast(builder.gep(column_of_a, [below[r]]), ir.FloatType().as_pointer())
                    )
                    alone = builder.insert_element(nothing, number, _INDEX(0))
                    everywhere = builder.shuffle_vector(alone, nothing, to_all_lanes)
                    for n in range(vectors):
                        added[r, n] = builder.call(multiply_add, [everywhere, factors[n], sums[r, n]])
                return added

            def add_steps(step: Any, sums: list[dict[Any, Any]]) -> tuple[Any, list[dict[Any, Any]]]:
                """Do ``len(sums)`` steps at a time, as long as so many are left."""
                before, count = builder.block, _INDEX(len(sums))
                head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
                builder.branch(head)
                builder.position_at_end(head)
                at, held = builder.phi(_INDEX), [{cell: builder.phi(vector) for cell in cells} for _ in sums]
                following = builder.add(at, count)
                builder.cbranch(builder.icmp_signed("<=", following, stop), body, end)
                builder.position_at_end(body)
                added = [add_step(builder.add(at, _INDEX(k)), each) for k, each in enumerate(held)]
                builder.branch(head)
                for phi, first_value, next_value in [
                    (at, step, following),
                    *((held[k][cell], sums[k][cell], added[k][cell]) for k in range(len(sums)) for cell in cells),
                ]:
                    phi.add_incoming(first_value, before)
                    phi.add_incoming(next_value, body)
                builder.position_at_end(end)
                return at, held

            step, sums = add_steps(_INDEX(0), [dict.fromkeys(cells, zero) for _ in range(at_once)])
            if at_once > 1:
                _, (rest,) = add_steps(step, [sums[0]])
                sums = [rest, *sums[1:]]
            for r in range(height):
                for n, address in enumerate(across(c, c_value, rows[r])):
                    total = builder.load(address, align=4)
                    for each in sums:
                        total = builder.fadd(total, each[r, n])
                    builder.store(total, address, align=4)
            return target.get_dummy_value()

        return types.void(c, types.intp, types.intp, a, b, ahead, types.intp, types.intp), emit

    return height, add_tile


_wide_rows, _add_wide = _tile(WIDE)
_narrow_rows, _add_narrow = _tile(NARROW)


@compiled
def add_product(a, b, c, ahead):
    """Add a · b to c, and meanwhile prefetch ``ahead``.

    a: float32 [at least rows, at least steps], of any strides; b: float32 [steps, columns]; c: float32 [rows, columns],
    whole tiles.
    """
    rows, columns = c.shape
    tiles = rows // min(_wide_rows, _narrow_rows) * ((columns + WIDE - 1) // WIDE)
    share = ahead.size * ahead.itemsize // tiles
    each, start = share // max(1, len(b)), 0
    for row in range(0, rows, ROWS):
        column = 0
        while column + WIDE <= columns:
            for r in range(row, row + ROWS, _wide_rows):
                _add_wide(c, r, column, a, b, ahead, start, each)
                start += share
            column += WIDE
        if column < columns:
            for r in range(row, row + ROWS, _narrow_rows):
                _add_narrow(c, r, column, a, b, ahead, start, each)
                start += share
