"""How many threads the kernels use.  Results never depend on it."""

import os
from typing import Any

_count: list[int] = []


def available() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count() -> int:
    """What `set_num_threads` set, else MINUNET_NUM_THREADS, else the cores this process may run on.

    Raises ValueError where MINUNET_NUM_THREADS is not a positive integer.
    """
    if not _count:
        text = os.environ.get("MINUNET_NUM_THREADS", "")
        if text and (not text.isdecimal() or int(text) < 1):
            raise ValueError(f"MINUNET_NUM_THREADS must be a positive integer, found {text!r}")
        _count.append(int(text) if text else available())
    return _count[0]


def set_num_threads(n: int) -> None:
    """Use `n` threads from here on, but no more than there are cores that the process may use.  ValueError below 1.

    Matrix products outside of our kernels (`F.matmul`, a user's own) follow where threadpoolctl is installed;
    otherwise set OPENBLAS_NUM_THREADS before Python starts.
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"the number of threads must be a positive integer, found {n!r}")
    _count[:] = [n]
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(limits=n, user_api="blas")


def hold_over_forks(lock: Any) -> None:
    """Let this process fork only while no other thread has `lock` (Lock or RLock), which a child would never get."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
