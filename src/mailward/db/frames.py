"""What goes between a gateway and its store process: one value a commit each way.

There, a pickle: whoever reads waits for nothing else. Back, a pickle in a frame, its length before it, because an event
loop must know when it has it all.
"""

import pickle
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from operator import attrgetter
from types import FunctionType
from typing import Any

from mailward.db.transaction import Transaction
from mailward.db.writer import Batch, Commit, Failed, Results, Write

_HEAD_BYTES = 8
_PROTOCOL = pickle.HIGHEST_PROTOCOL


class FrameReader:
    """Puts frames together from the pieces in which they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self._missing = 0  # bytes of the frame that has begun; 0 between two frames
        self._head = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the values that `data` completes."""
        rest = memoryview(data)
        while rest:
            if not self._missing:
                begun = self._head + rest[: _HEAD_BYTES - len(self._head)]
                rest = rest[_HEAD_BYTES - len(self._head) :]
                if len(begun) < _HEAD_BYTES:
                    self._head = begun
                    return
                self._head, self._missing = b"", int.from_bytes(begun, "little")
            piece = rest[: self._missing]
            rest = rest[len(piece) :]
            self._missing -= len(piece)
            if self._missing:
                self._pieces.append(piece)
            elif self._pieces:
                self._pieces.append(piece)
                pieces, self._pieces = self._pieces, []
                yield pickle.loads(b"".join(pieces))
            else:
                yield pickle.loads(piece)


def frame(value: Any) -> bytes:
    """Return `value` as a frame. Raises whatever pickling it raises."""
    return _framed(pickle.dumps(value, _PROTOCOL))


def _framed(body: bytes) -> bytes:
    return b"%b%b" % (len(body).to_bytes(_HEAD_BYTES, "little"), body)


def commit_pieces(commit: Commit) -> list[bytes]:
    """Return `commit` pickled, in pieces. A call that cannot be pickled fails alone, in the store process."""
    try:
        return pieces([_plain(call) for call in commit])
    except Exception:
        return pieces([_plain(_sendable(call)) for call in commit])


def commit_of(plain: list[Any]) -> Commit:
    """Return the commit that `commit_pieces` pickled."""
    return [
        Batch(_function(name), values) if is_batch else Write(_function(name), values)
        for is_batch, name, values in plain
    ]


def _plain(call: Write | Batch) -> tuple[Any, ...]:
    """Return `call` without our classes: each costs a look-up at either end, and a named tuple a call besides."""
    if isinstance(call, Write):
        return False, _name(call.function), call.args
    items = call.items
    return True, _name(call.function), [tuple(item) for item in items] if isinstance(items[0], tuple) else items


def _name(function: Callable[..., Any]) -> Any:
    return _name_of(function) if isinstance(function, FunctionType) else function


@lru_cache(maxsize=256)
def _name_of(function: FunctionType) -> Any:
    """Return the full name of `function`; itself, to be pickled, when it cannot be found by that."""
    name = f"{function.__module__}:{function.__qualname__}"
    try:
        return name if _function(name) is function else function
    except (ImportError, AttributeError):
        return function


def _function(name: Any) -> Any:
    return _function_called(name) if isinstance(name, str) else name


@lru_cache(maxsize=256)
def _function_called(name: str) -> Any:
    module, _, path = name.partition(":")
    return attrgetter(path)(import_module(module))


def pieces(value: Any) -> list[bytes]:
    """Return `value` pickled; large bytes in it are pieces of their own and not copied. Raises what pickling raises."""
    out = _Pieces()
    pickle.Pickler(out, _PROTOCOL).dump(value)
    return out.all


class _Pieces:
    """A file, as far as a pickler knows."""

    def __init__(self) -> None:
        self.all: list[bytes] = []
        self.write = self.all.append


def _sendable(call: Write | Batch) -> Write | Batch:
    try:
        pickle.dumps(_plain(call), _PROTOCOL)
    except Exception as error:
        words = f"the call cannot be sent to the store process: {error!r}"
        return Write(_refuse, (words,)) if isinstance(call, Write) else Batch(_refuse, [words] * len(call.items))
    return call


def _refuse(tx: Transaction, words: Any) -> Any:
    raise TypeError(words)


def results_frame(results: Results) -> bytes:
    """Return `results` as a frame. One that cannot be pickled arrives as Failed; its commit stands all the same."""
    try:
        return frame([_returnable(result) for result in results])
    except Exception:
        return frame([_checked(result) for result in results])


def _returnable(result: Any) -> Any:
    if type(result) is list and any(type(answer) is Failed for answer in result):
        return [_returnable(answer) for answer in result]
    return _Elsewhere(result.error) if isinstance(result, Failed) else result


def _checked(result: Any) -> Any:
    try:
        result = _returnable(result)
        pickle.dumps(result, _PROTOCOL)
    except Exception as error:
        return _Elsewhere(TypeError(f"the result cannot be sent from the store process: {error!r}"))
    return result


class StoreTraceback(Exception):
    """The cause of an exception that was raised in the store process: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Elsewhere:
    """Pickles as a Failed whose error has its traceback as text. An error that cannot travel is described."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        error = self._error
        text = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error, _PROTOCOL))  # Many exceptions pickle, and then cannot be made anew.
        except Exception:
            error = RuntimeError(f"the function raised {error!r}")
        return _failed, (error, text)


def _failed(error: Exception, text: str) -> Failed:
    error.__cause__ = StoreTraceback(text)
    return Failed(error)
