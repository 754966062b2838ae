"""From an outer-product register tile to machine code: the one place where we emit SIMD instructions.

A matrix product spends its time in one small loop.  For a tile of ``rows`` x ``vectors * lanes`` outputs
that loop reads ``rows`` numbers of ``a`` and ``vectors`` vectors of ``b`` and does ``rows * vectors``
fused multiply-adds, so that every number read is used many times::

    for step in range(steps):
        for v in range(vectors):  bv = b[step, v]                  # `lanes` neighbouring numbers
        for r in range(rows):
            ar = broadcast(a[r, step])
            for v in range(vectors):  acc[r, v] = fma(ar, bv, acc[r, v])

The accumulators must stay in registers.  LLVM does not keep them there when this is written as plain
Numba loops, so ``outer_product_tile`` emits the loop through llvmlite's IR builder, unrolled over rows and
vectors, as a function that compiled code can call.

Every output is one chain of multiply-adds in the order of the loops above, wherever in the tile it lies
and however wide the vectors are.  Results therefore do not depend on how the work is cut into tiles.
"""

import functools

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@functools.cache
def cpu_features() -> frozenset[str]:
    """Names of the instruction sets code is compiled for, as LLVM spells them ("avx512f", "fma", ...)."""
    spelled = numba.config.CPU_FEATURES
    if spelled is None:
        if numba.config.CPU_NAME not in (None, "host"):
            return frozenset()
        return frozenset(name for name, on in llvm.get_host_cpu_features().items() if on)
    return frozenset(name[1:] for name in spelled.split(",") if name.startswith("+"))


def vector_bytes() -> int:
    """Width of one vector register: 64 with AVX-512, 32 with AVX, otherwise 16 (SSE2, NEON)."""
    if "avx512f" in cpu_features():
        return 64
    return 32 if "avx" in cpu_features() else 16


def has_fma() -> bool:
    """Whether the CPU multiplies and adds in one rounding (x86 with FMA3, every 64-bit Arm)."""
    return bool({"fma", "neon", "fp-armv8"} & cpu_features())


def register_tile(heights: dict[int, int], columns: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A tile's height in rows and its width in vectors, as two empty arrays with so many axes.

    Numba compiles for types, and the number of axes is part of an array's type: so the size of the tile is known
    when the loop is unrolled.  `heights` maps a width in vectors to the rows that then fit the registers; the
    widest tile whose last vector is still needed for `columns` outputs is taken.
    """
    vectors = max((v for v in heights if columns > (v - 1) * lanes(bits)), default=1)
    return np.empty((0,) * heights[vectors], np.uint8), np.empty((0,) * vectors, np.uint8)


def lanes(bits: int) -> int:
    """Numbers of `bits` bits in one vector register."""
    return vector_bytes() * 8 // bits


def forward_tile(columns: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Tile for sums over channels: `columns` output channels by neighbouring pixels."""
    wide = vector_bytes() == 64
    return register_tile({1: 14, 2: 8} if wide else {1: 8, 2: 6}, columns, bits)


def weight_tile(columns: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Tile for sums over pixels: `columns` output channels by 8 (or 4) input channels."""
    wide = vector_bytes() == 64
    return register_tile({1: 8, 2: 8} if wide else {1: 8, 2: 4}, columns, bits)


@intrinsic
def outer_product_tile(typingctx, tile, c, c0, a, a0, a_row, a_step, a_outer, b, b0, b_step, b_outer, steps, outer):
    """The register tile, for compiled code; `tile` comes from `register_tile`.

    ::

        c[c0 + r * columns + j] +=
            sum over o < outer, s < steps of
                a[a0 + o * a_outer + r * a_row + s * a_step] * b[b0 + o * b_outer + s * b_step + j]

    for r < rows and j < columns.  `a`, `b`, `c` are flat contiguous arrays of one dtype, the rest integers counted
    in elements.  Nothing is checked: the caller keeps every index inside its array.
    """
    rows, vectors = (part.ndim for part in tile)
    bits = a.dtype.bitwidth
    width = lanes(bits)
    columns = vectors * width
    scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
    vector = ir.VectorType(scalar, width)
    i64 = ir.IntType(64)

    def splat(builder, value):
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, value, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return builder.shuffle_vector(one, undefined, everywhere)

    def multiply_add(builder, x, y, accumulator):
        if not has_fma():
            return builder.fadd(builder.fmul(x, y), accumulator)
        signature = ir.FunctionType(vector, [vector, vector, vector])
        fma = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{width}f{bits}")
        return builder.call(fma, [x, y, accumulator])

    def vector_at(builder, data, index):
        return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

    def load(builder, data, index):
        return builder.load(vector_at(builder, data, index), align=bits // 8)

    def emit(context, builder, signature, arguments):
        _, c0, a0, a_row, a_step, a_outer, b0, b_step, b_outer, steps, outer = (
            arguments[k] for k in (0, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13)
        )
        c, a, b = (
            context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (1, 3, 8)
        )
        places = [(r, v) for r in range(rows) for v in range(vectors)]
        c_index = {(r, v): builder.add(c0, i64(r * columns + v * width)) for r, v in places}
        # Stack slots that are only loaded and stored become registers in LLVM's mem2reg pass.
        accumulator = {place: cgutils.alloca_once(builder, vector) for place in places}
        for place in places:
            builder.store(load(builder, c, c_index[place]), accumulator[place])
        row_offset = [builder.mul(a_row, i64(r)) for r in range(rows)]
        with cgutils.for_range(builder, outer) as o:
            a_start = builder.add(a0, builder.mul(o.index, a_outer))
            b_start = builder.add(b0, builder.mul(o.index, b_outer))
            a_rows = [builder.gep(a, [builder.add(a_start, offset)]) for offset in row_offset]
            with cgutils.for_range(builder, steps) as s:
                at = builder.add(b_start, builder.mul(s.index, b_step))
                a_at = builder.mul(s.index, a_step)
                b_vectors = [load(builder, b, builder.add(at, i64(v * width))) for v in range(vectors)]
                for r in range(rows):
                    value = splat(builder, builder.load(builder.gep(a_rows[r], [a_at])))
                    for v in range(vectors):
                        slot = accumulator[r, v]
                        builder.store(multiply_add(builder, value, b_vectors[v], builder.load(slot)), slot)
        for place in places:
            builder.store(builder.load(accumulator[place]), vector_at(builder, c, c_index[place]), align=bits // 8)
        return context.get_dummy_value()

    n = types.int64
    return types.void(tile, c, n, a, n, n, n, n, b, n, n, n, n, n), emit
