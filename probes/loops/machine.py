"""What the compiled loops need of a processor and numba has no word for: stored numbers, prefetching, shared memory.

Each function here becomes a few instructions in the loop that calls it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE_BYTES = 64
"""What a processor takes from memory at once."""

SOURCES = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def compiled(function: Callable[..., Any] | None = None, *, fastmath: Collection[str] = ()) -> Any:
    """Have numba compile a function when it is first called, and keep it until any file of this folder changes.

    fastmath: freedoms that the compiler has with float arithmetic.
    """
    if function is None:
        return partial(compiled, fastmath=fastmath)
    made = numba.njit(function, cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath))
    # By itself numba looks at the function's own file only, but ours are made of functions of other files.
    kept = made._cache._cache_file
    if not hasattr(kept, "_source_stamp"):
        raise ImportError(f"numba {numba.__version__} keeps compiled functions in a way that probes does not know.")
    kept._source_stamp = SOURCES
    return made


# Terms of a sum may change places: only then can it be spread over the lanes of a processor.
reordered: Any = partial(compiled, fastmath=("reassoc", "contract", "nsz"))


_ORDER = "seq_cst"


def address_of(target: Any, builder: Any, array: Any, value: Any, *index: Any) -> Any:
    """Return the address of one number of an array."""
    header = target.make_array(array)(target, builder, value)
    return cgutils.get_item_pointer(target, builder, array, header, index, wraparound=False)


def prefetch_line(builder: Any, address: Any) -> None:
    """Ask for the cache line of an address without waiting for it."""
    there, flag = builder.bitcast(address, cgutils.voidptr_t), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [there.type, flag, flag, flag])
    to_read, to_keep, data = flag(0), flag(3), flag(1)
    call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(call, [there, to_read, to_keep, data])


@intrinsic
def as_float(context: Any, number: Any) -> Any:
    """Float32 of one stored number: itself, or of uint16 the float16 of these bits."""
    if number == types.float32:
        return types.float32(number), lambda target, builder, signature, args: args[0]

    def convert(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), convert


@intrinsic
def bits_as_float(context: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""
    return types.float32(types.int32), lambda target, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def maximum(context: Any, one: Any, other: Any) -> Any:
    """The higher of two float32 numbers; not a number if one of them is none. Lanes can do it, unlike a comparison."""

    def choose(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 2)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.maximum.f32"), args)

    return types.float32(types.float32, types.float32), choose


@intrinsic
def read_shared(context: Any, array: Any, index: Any) -> Any:
    """One int64 as other threads have left it; what they wrote before it can then be read too."""

    def read(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(address_of(target, builder, array, *args), _ORDER, 8)

    return types.int64(array, types.intp), read


@intrinsic
def write_shared(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Set one int64 for all threads, after all that was written before."""

    def write(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], address_of(target, builder, array, *args[:2]), _ORDER, 8)
        return target.get_dummy_value()

    return types.void(array, types.intp, types.int64), write


@intrinsic
def add_shared(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Add to one int64 that other threads add to as well."""

    def add(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.atomic_rmw("add", address_of(target, builder, array, *args[:2]), args[2], _ORDER)
        return target.get_dummy_value()

    return types.void(array, types.intp, types.int64), add


@intrinsic
def replace_shared(context: Any, array: Any, index: Any, old: Any, new: Any) -> Any:
    """Set one int64 to ``new`` if it still is ``old``; return whether it was."""

    def swap(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = builder.cmpxchg(address_of(target, builder, array, *args[:2]), args[2], args[3], _ORDER)
        return builder.extract_value(found, 1)

    return types.boolean(array, types.intp, types.int64, types.int64), swap


@intrinsic
def read_file(context: Any, descriptor: Any, array: Any, done: Any, count: Any, start: Any) -> Any:
    """Read ``count`` bytes from byte ``start`` of a file on into an array, whose first ``done`` bytes are there.

    Returns:
        How many were read, which may be fewer; -1 when it failed.
    """

    def read(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = target.make_array(array)(target, builder, args[1]).data
        to = builder.gep(builder.bitcast(data, cgutils.voidptr_t), [args[2]])
        size = args[3].type
        kind = ir.FunctionType(size, [ir.IntType(32), to.type, size, size])
        call = cgutils.get_or_insert_function(builder.module, kind, "pread")
        return builder.call(call, [builder.trunc(args[0], ir.IntType(32)), to, args[3], args[4]])

    return types.int64(types.int64, array, types.int64, types.int64, types.int64), read


@intrinsic
def ask_file_for(context: Any, descriptor: Any, start: Any, count: Any) -> Any:
    """Have bytes of a file read ahead, where the system can be told so."""

    def advise(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        if hasattr(os, "posix_fadvise"):
            number, size = ir.IntType(32), args[1].type
            kind = ir.FunctionType(number, [number, size, size, number])
            call = cgutils.get_or_insert_function(builder.module, kind, "posix_fadvise")
            builder.call(call, [builder.trunc(args[0], number), args[1], args[2], number(os.POSIX_FADV_WILLNEED)])
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), advise


@intrinsic
def breathe(context: Any) -> Any:
    """Tell the processor that this thread only waits for another."""

    def pause(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return target.get_dummy_value()

    return types.void(), pause


@intrinsic
def give_way(context: Any) -> Any:
    """Let another thread have this core."""

    def give(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return target.get_dummy_value()

    return types.void(), give
