"""The counter of tasks that the threads of one call share (Numba): who asks it gets the next number.

It tells more than that.  A helper thread that waits for work (workers.py) watches the counter of the call that comes
next, without the interpreter's lock: as soon as it moves, the caller is in compiled code and has let go of that lock,
and the helper finds it free.  A helper that waits in Python meets the caller there, each in the other's way, and is put
to sleep: then it comes 50 us late, which is as long as a layer of a small network takes.
"""

import os

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from . import workers
from .jit import serial

LOOKS = 200  # at a counter that does not move, one after another; with a yield after each, 100 us


def _first_number(context, builder, signature, arguments):
    """Where counter[0] lies."""
    return context.make_array(signature.args[0])(context, builder, arguments[0]).data


@intrinsic
def next_task(typingctx, counter):
    """counter[0], which is then one higher, so that threads that ask at the same moment get different numbers."""

    def code(context, builder, signature, arguments):
        data = _first_number(context, builder, signature, arguments)
        return builder.atomic_rmw("add", data, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), code


@intrinsic
def look(typingctx, counter):
    """counter[0] as it is at this moment."""

    def code(context, builder, signature, arguments):
        return builder.load_atomic(_first_number(context, builder, signature, arguments), "monotonic", 8)

    return types.int64(counter), code


# Let another thread that waits for this core go first.  The system likes to put a thread on the core of the one that
# woke it: a caller that was woken by a helper which then watches on would get no time until that gives up.
give_way = types.ExternalFunction("sched_yield", types.int32()) if os.name == "posix" else serial(lambda: 0)


@serial
def watch(counter, looks):
    """Comes back when a task of this counter has been taken, or after so many looks."""
    for _ in range(looks):
        if look(counter) != 0:
            break
        give_way()


workers.watch = lambda counter: watch(counter, LOOKS)
