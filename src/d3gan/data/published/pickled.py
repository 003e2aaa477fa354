"""Reads the kind of pickle in the CIFAR archives, without running code in it.

A pickle is a program. Only what the published archives use is allowed: containers, numbers, strings, and NumPy arrays
of bytes, which are never built but returned as raw bytes. Everything else is refused before the unpickler starts.
"""

import io
import pickle
import pickletools
from typing import Any

_OPCODES = frozenset(
    {
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "BININT", "BININT1", "BININT2", "LONG1"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
        *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    }
)
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_MOST_TUPLES = 24
"""More than CIFAR's array has. Python hashes a tuple part by part, and a pair of pairs of pairs … has 2^n parts."""
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


class PickledArray:
    """The parts of a pickled NumPy array, which is not built.

    Attributes:
        state: (version, shape, dtype, column-major?, raw bytes) once read; empty before.
    """

    def __init__(self, *_arguments: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, tuple) else ()


class PickledDtype:
    """The name of a pickled dtype, such as ``u1``."""

    def __init__(self, name: object = b"", *_arguments: object) -> None:
        # Of nothing else: lists of lists that share their parts have a name without end.
        self.name = name.decode("latin1") if isinstance(name, bytes) else name if isinstance(name, str) else ""

    def __setstate__(self, state: object) -> None:
        """Ignores byte order and the like, which a one-byte type does not need."""


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledDtype,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the forbidden global {module}.{name}") from None


def load_restricted(data: bytes) -> object:
    """Reads a pickle that may hold containers, numbers, strings and arrays of bytes.

    Args:
        data: The whole pickle; Python 2's strings come back as bytes.

    Returns:
        The object, each array in it as a `PickledArray`.

    Raises:
        Exception: of any kind, for a damaged pickle; `pickle.UnpicklingError` for a forbidden global or
            instruction, which it names. The caller knows the file's name and turns this into an error for the user.
    """
    tuples = 0
    for opcode, argument, position in pickletools.genops(data):
        tuples += opcode.name in _TUPLES
        if tuples > _MOST_TUPLES:
            raise pickle.UnpicklingError(f"more than {_MOST_TUPLES} tuples at byte {position}")
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"the forbidden instruction {opcode.name} at byte {position}")
        if opcode.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _GLOBALS:
            raise pickle.UnpicklingError(f"the forbidden global {str(argument).replace(' ', '.')}")
        # The unpickler sizes its memo by the largest index: a huge one would take all memory.
        if opcode.name in _MEMO_WRITES and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"memo index {argument} at byte {position}")
    return _RestrictedUnpickler(io.BytesIO(data), encoding="bytes").load()
