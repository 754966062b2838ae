"""From arithmetic to machine code: the one place where we emit SIMD instructions.

Numba turns Python loops into machine code, and LLVM vectorises simple ones.  Two kinds of inner loop do not come out
well that way, and are emitted here through llvmlite's IR builder, as functions that compiled code can call: the
register tile of a matrix product, and straight-line transforms of small tiles.

Four things are all there is to it:

`Vector`        some numbers in one register.  + - * on it emit an instruction instead of computing something; so a
                Python function written for numbers becomes straight-line machine code when it is called on Vectors.
`static(n)`     a number that the compiler knows, so that loops over it are unrolled.
`emitted`       a function whose body is emitted, for compiled code to call.
`outer_product_tile`    the loop a matrix product spends its time in.

Every output is one chain of operations in an order that does not depend on where it lies in a vector or a tile, so
results do not depend on how the work is cut up.
"""

import functools
from collections.abc import Callable

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

# ------------------------------------------------------------------------------------------------- the processor


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


def lanes(bits: int) -> int:
    """Numbers of `bits` bits in one vector register."""
    return vector_bytes() * 8 // bits


def lanes_for(channels: int, bits: int) -> int:
    """Numbers a vector should have for so many channels: half a register where that holds all of them."""
    whole = lanes(bits)
    return whole // 2 if 4 <= whole // 2 >= channels else whole


def static(n: int) -> np.ndarray:
    """`n` (up to 64) as a number known to the compiler: an empty array with n axes.

    Numba compiles for types, and the number of axes is part of an array's type: compiled code reads it as `.ndim`,
    a constant, and makes other machine code for every n.
    """
    return np.empty((0,) * n, np.uint8)


# ---------------------------------------------------------------------------------------------------- arithmetic


class Vector:
    """Numbers in one register, while code is being emitted: + and - emit one instruction, * waits for a sum.

    `a * 5.0 + b` becomes one fused multiply-add (two instructions where the CPU has none), always in the order it is
    written: the compiler has no freedom to round otherwise.
    """

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other):
        if isinstance(other, Product):
            return other.vector.times(other.factor, plus=self)
        return Vector(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other):
        if isinstance(other, Product):
            return other.vector.times(-other.factor, plus=self)
        return Vector(self.builder, self.builder.fsub(self.value, other.value))

    def __neg__(self):
        return Vector(self.builder, self.builder.fneg(self.value))

    def __mul__(self, factor: float):
        return Product(self, factor)

    def times(self, factor: float, plus: "Vector") -> "Vector":
        """self * factor + plus."""
        return self.multiply_add(self.filled(factor), plus)

    def multiply_add(self, factor: "Vector", plus: "Vector") -> "Vector":
        """self * factor + plus, in one rounding where the CPU can."""
        builder, kind = self.builder, self.value.type
        if not has_fma():
            return Vector(builder, builder.fadd(builder.fmul(self.value, factor.value), plus.value))
        signature = ir.FunctionType(kind, [kind, kind, kind])
        bits = 32 if isinstance(kind.element, ir.FloatType) else 64
        fma = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{kind.count}f{bits}")
        return Vector(builder, builder.call(fma, [self.value, factor.value, plus.value]))

    def filled(self, number: float) -> "Vector":
        """A vector of this kind whose numbers are all the same."""
        return Vector(self.builder, ir.Constant(self.value.type, [float(number)] * self.value.type.count))

    def at_least(self, floor: "Vector") -> "Vector":
        """The larger of the two, number by number; NaN stays NaN."""
        builder = self.builder
        below = builder.fcmp_ordered("<=", self.value, floor.value)
        return Vector(builder, builder.select(below, floor.value, self.value))


def rounded(number: "Vector | Product") -> "Vector":
    """A product that nothing is added to is computed; a vector is returned as it is."""
    return number.rounded() if isinstance(number, Product) else number


class Product:
    """A vector times a plain number, before it is known what it is added to."""

    def __init__(self, vector: Vector, factor: float) -> None:
        self.vector, self.factor = vector, factor

    def rounded(self) -> Vector:
        """The product by itself."""
        builder = self.vector.builder
        return Vector(builder, builder.fmul(self.vector.value, self.vector.filled(self.factor).value))

    def __mul__(self, factor: float):
        return Product(self.rounded(), factor)

    def __add__(self, other):
        return self.vector.times(self.factor, plus=rounded(other))

    def __sub__(self, other):
        return self.rounded() - other if isinstance(other, Product) else self + -other

    def __neg__(self):
        return Product(self.vector, -self.factor)


# ------------------------------------------------------------------------------------------- registers and memory


class Emitter:
    """Ways to memory while the body of a function is emitted, for vectors of `count` numbers of `bits` bits.

    Indices and strides count numbers.
    """

    def __init__(self, builder: ir.IRBuilder, bits: int, count: int) -> None:
        self.builder, self.bits, self.count = builder, bits, count
        self.kind = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), count)

    def index(self, start: ir.Value, *terms: tuple[ir.Value | int, int]) -> ir.Value:
        """start + the sum of factor * constant over the terms."""
        for factor, constant in terms:
            factor = ir.IntType(64)(factor) if isinstance(factor, int) else factor
            start = self.builder.add(start, self.builder.mul(factor, ir.IntType(64)(constant)))
        return start

    def place(self, data: ir.Value, index: ir.Value) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(data, [index]), self.kind.as_pointer())

    def load(self, data: ir.Value, index: ir.Value) -> Vector:
        """The neighbouring numbers from `index` on."""
        return Vector(self.builder, self.builder.load(self.place(data, index), align=self.bits // 8))

    def store(self, vector: Vector, data: ir.Value, index: ir.Value) -> None:
        self.builder.store(vector.value, self.place(data, index), align=self.bits // 8)

    def splat(self, number: ir.Value) -> Vector:
        """A vector whose numbers are all `number`."""
        undefined = ir.Constant(self.kind, ir.Undefined)
        one = self.builder.insert_element(undefined, number, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.count), [0] * self.count)
        return Vector(self.builder, self.builder.shuffle_vector(one, undefined, everywhere))

    def zero(self) -> Vector:
        return Vector(self.builder, ir.Constant(self.kind, [0.0] * self.count))


def emitted(name: str, bits: int, count: int, body: Callable[..., None]) -> Callable[..., ir.Value]:
    """What an intrinsic returns as its code: a call of a function `name`, whose body is emitted once a module.

    body(emitter, *arguments) gets the arguments that exist at run time: arrays as pointers to their first number, and
    numbers; `static` ones are left out, so `name` must tell what was made of them.  A function of its own, rather than
    code at every place of use, keeps compile times short; a call takes a few nanoseconds.
    """

    def code(context, builder, signature, arguments):
        values = []
        for kind, value in zip(signature.args, arguments, strict=True):
            if isinstance(kind, types.Array) and kind.dtype != types.uint8:
                values.append(context.make_array(kind)(context, builder, value).data)
            elif isinstance(kind, (types.Integer, types.Float, types.Boolean)):
                values.append(value)
        signature_here = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        function = cgutils.get_or_insert_function(builder.module, signature_here, f"minunet_{name}_{count}xf{bits}")
        if function.is_declaration:
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block())
            body(Emitter(inside, bits, count), *function.args)
            inside.ret_void()
        builder.call(function, values)
        return context.get_dummy_value()

    return code


# -------------------------------------------------------------------------------------------- the register tile


def register_tile(heights: dict[int, int], columns: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tile's height in rows, its width in vectors and the numbers of a vector, as `static` numbers.

    `heights` maps a width in vectors to the rows that then fit the registers; the widest tile whose last vector is
    still needed for `columns` outputs is taken.
    """
    count = lanes_for(columns, bits)
    vectors = max((v for v in heights if columns > (v - 1) * count), default=1)
    return static(heights[vectors]), static(vectors), static(count)


def forward_tile(columns: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tile for sums over channels: `columns` output channels by neighbouring pixels."""
    wide = vector_bytes() == 64
    return register_tile({1: 14, 2: 8} if wide else {1: 8, 2: 6}, columns, bits)


def weight_tile(columns: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tile for sums over pixels: `columns` output channels by 8 (or 4) input channels."""
    wide = vector_bytes() == 64
    return register_tile({1: 8, 2: 8} if wide else {1: 8, 2: 4}, columns, bits)


@intrinsic
def outer_product_tile(
    typingctx, tile, keep, c, c0, a, a0, a_row, a_step, a_outer, b, b0, b_step, b_outer, steps, outer
):
    """The loop a matrix product spends its time in, for one tile of outputs that stays in registers.

    For rows x (vectors * count) outputs it reads, in every step, `rows` numbers of a and `vectors` vectors of b, and
    does rows * vectors fused multiply-adds, so that every number read is used many times::

        for o in range(outer):
            for s in range(steps):
                for v in range(vectors):  bv = b[b0 + o * b_outer + s * b_step + v]     # `count` neighbouring numbers
                for r in range(rows):
                    ar = a[a0 + o * a_outer + r * a_row + s * a_step]                   # one number, in all lanes
                    for v in range(vectors):  c[r, v] = fma(ar, bv, c[r, v])

    c lies at c0, row behind row without gaps; it is added to if `keep`, else overwritten.  The accumulators must stay
    in registers, and LLVM does not keep them there when this is written as plain loops.  `tile` comes from
    `register_tile`; a, b, c are flat contiguous arrays of one dtype, the rest integers counted in numbers.  Nothing is
    checked: the caller keeps every index inside its array.
    """
    rows, vectors, count = (part.ndim for part in tile)
    places = [(r, v) for r in range(rows) for v in range(vectors)]

    def body(e, keep, c, c0, a, a0, a_row, a_step, a_outer, b, b0, b_step, b_outer, steps, outer):
        builder = e.builder
        target = {(r, v): e.index(c0, (r * vectors + v, count)) for r, v in places}
        # Stack slots that are only loaded and stored become registers in LLVM's mem2reg pass.
        accumulator = {place: cgutils.alloca_once_value(builder, e.zero().value) for place in places}
        with builder.if_then(keep):
            for place in places:
                builder.store(e.load(c, target[place]).value, accumulator[place])
        with cgutils.for_range(builder, outer) as o:
            a_start = builder.add(a0, builder.mul(o.index, a_outer))
            b_start = builder.add(b0, builder.mul(o.index, b_outer))
            a_rows = [builder.gep(a, [e.index(a_start, (a_row, r))]) for r in range(rows)]
            with cgutils.for_range(builder, steps) as s:
                at = builder.add(b_start, builder.mul(s.index, b_step))
                a_at = builder.mul(s.index, a_step)
                b_vectors = [e.load(b, e.index(at, (v, count))) for v in range(vectors)]
                for r in range(rows):
                    value = e.splat(builder.load(builder.gep(a_rows[r], [a_at])))
                    for v in range(vectors):
                        slot = accumulator[r, v]
                        total = Vector(builder, builder.load(slot))
                        builder.store(value.multiply_add(b_vectors[v], total).value, slot)
        for place in places:
            e.store(Vector(builder, builder.load(accumulator[place])), c, target[place])

    n = types.int64
    signature = types.void(tile, types.boolean, c, n, a, n, n, n, n, b, n, n, n, n, n)
    return signature, emitted(f"outer_product_{rows}x{vectors}", a.dtype.bitwidth, count, body)
