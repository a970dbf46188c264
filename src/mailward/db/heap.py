"""What a process that handles large contents asks of its memory allocator."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 1 << 20
_KEPT_BYTES = 4 << 20


def return_large_blocks() -> None:
    """Have blocks of 1 MiB and more go back to the system when they are freed. Does nothing where that is unknown.

    glibc's own limit grows to 32 MiB with the first large block freed: then contents lie scattered in the heap, which
    keeps the memory of the largest moment for ever.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, 1)  # Threads take turns anyway; the heap of each would keep its largest moment.
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)  # Pieces come and go, and would be given back each time.
