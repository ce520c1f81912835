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
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_NOTHING = ir.Constant(_VECTOR, ir.Undefined)
_TO_ALL_LANES = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

_Sums = dict[tuple[int, int], Any]
"""A register for each row and each vector of a tile."""


class _Tile:
    """Writes the instructions that add to one tile; the arguments are those of ``add_tile``, as numba has them."""

    def __init__(self, target: Any, builder: Any, columns: int, signature: Any, args: Any):
        self.target, self.builder = target, builder
        self.height, self.vectors, self.at_once = _form(columns)
        self.cells = [(r, n) for r in range(self.height) for n in range(self.vectors)]
        c, row, self.column, _, b, _, start, self.each = args
        self.b, self.c = (signature.args[4], b), (signature.args[0], c)
        a_struct, b_struct, ahead_struct = (
            target.make_array(signature.args[k])(target, builder, args[k]) for k in (3, 4, 5)
        )
        self.stop, _ = cgutils.unpack_tuple(builder, b_struct.shape)
        to_row, self.to_step = cgutils.unpack_tuple(builder, a_struct.strides)
        self.begin = builder.bitcast(a_struct.data, cgutils.voidptr_t)
        self.wanted = builder.gep(builder.bitcast(ahead_struct.data, cgutils.voidptr_t), [start])
        self.rows = [builder.add(row, _INDEX(r)) for r in range(self.height)]
        # What the compiler does not know to be multiples it keeps in registers; else each row waits for the last.
        self.below = [builder.asm(_UNKNOWN, "", "=r,0", [builder.mul(to_row, row)], False) for row in self.rows]

    def write(self) -> None:
        """Write all of it."""
        zeros = dict.fromkeys(self.cells, ir.Constant(_VECTOR, None))
        step, sums = self._add_steps(_INDEX(0), [zeros] * self.at_once)
        if self.at_once > 1:
            _, (rest,) = self._add_steps(step, [sums[0]])
            sums = [rest, *sums[1:]]
        for r, row in enumerate(self.rows):
            for n, address in enumerate(self._across(self.c, row)):
                total = self.builder.load(address, align=4)
                for own in sums:
                    total = self.builder.fadd(total, own[r, n])
                self.builder.store(total, address, align=4)

    def _across(self, array: tuple[Any, Any], row: Any) -> list[Any]:
        """Return the addresses of the tile's vectors in a row of b or c."""
        first = address_of(self.target, self.builder, *array, row, self.column)
        places = [self.builder.gep(first, [_INDEX(n * LANES)]) for n in range(self.vectors)]
        return [self.builder.bitcast(each, _VECTOR.as_pointer()) for each in places]

    def _add_steps(self, step: Any, sums: list[_Sums]) -> tuple[Any, list[_Sums]]:
        """Do ``len(sums)`` steps at a time, each with its own sums, as long as so many are left."""
        builder, before = self.builder, self.builder.block
        head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        at, held = builder.phi(_INDEX), [{cell: builder.phi(_VECTOR) for cell in self.cells} for _ in sums]
        following = builder.add(at, _INDEX(len(sums)))
        builder.cbranch(builder.icmp_signed("<=", following, self.stop), body, end)
        builder.position_at_end(body)
        added = [self._add_step(builder.add(at, _INDEX(k)), each) for k, each in enumerate(held)]
        builder.branch(head)
        for phi, first_value, next_value in [
            (at, step, following),
            *((held[k][cell], sums[k][cell], added[k][cell]) for k in range(len(sums)) for cell in self.cells),
        ]:
            phi.add_incoming(first_value, before)
            phi.add_incoming(next_value, body)
        builder.position_at_end(end)
        return at, held

    def _add_step(self, step: Any, sums: _Sums) -> _Sums:
        builder, added = self.builder, {}
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )
        factors = [builder.load(address, align=4) for address in self._across(self.b, step)]
        prefetch_line(builder, builder.gep(self.wanted, [builder.mul(self.each, step)]))
        column = builder.gep(self.begin, [builder.mul(self.to_step, step)])
        for r, below in enumerate(self.below):
            number = builder.load(builder.bitcast(builder.gep(column, [below]), ir.FloatType().as_pointer()))
            alone = builder.insert_element(_NOTHING, number, _INDEX(0))
            everywhere = builder.shuffle_vector(alone, _NOTHING, _TO_ALL_LANES)
            for n in range(self.vectors):
                added[r, n] = builder.call(multiply_add, [everywhere, factors[n], sums[r, n]])
        return added


def _form(columns: int) -> tuple[int, int, int]:
    """Return the rows of a tile, the vectors of a row, and how many steps are summed apart.

    A sum waits for its own last step, so narrow tiles sum every other step apart.
    """
    vectors = columns // LANES
    height = min(ROWS, SUMS // vectors)
    return height, vectors, SUMS // (vectors * height)


def _tile(columns: int) -> tuple[int, Any]:
    """Return how many rows a tile of so many columns has, and what adds to it."""

    @intrinsic
    def add_tile(context: Any, c: Any, i: Any, j: Any, a: Any, b: Any, ahead: Any, start: Any, each: Any) -> Any:
        """Add a[i:i+height] · b[:, j:j+columns] to ``c`` from i, j on; ``a`` may be wider than ``b`` is high.

        With every step ``each`` bytes of ``ahead`` are prefetched, from byte ``start`` on.
        """

        def emit(target: Any, builder: Any, signature: Any, args: Any) -> Any:
            _Tile(target, builder, columns, signature, args).write()
            return target.get_dummy_value()

        return types.void(c, types.intp, types.intp, a, b, ahead, types.intp, types.intp), emit

    return _form(columns)[0], add_tile


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
