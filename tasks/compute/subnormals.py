"""Subnormal numbers: those so close to 0 that they have fewer digits, in double precision those below 2.2e-308.

Some processors compute with them many times slower. Weights of a neural net that regularization shrinks get there in
long fits, and so does a moving average of gradients that are 0.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ENVIRONMENT_BYTES = 64  # more than fenv_t has on any of these machines


@dataclass(frozen=True, slots=True)
class _Register:
    """Where glibc's and musl's fenv_t hold the control register of floating-point arithmetic, and its bits."""

    offset: int  # bytes
    bits: int


REGISTERS = {
    "x86_64": _Register(28, 0x8040),  # MXCSR: flush to zero (results), and denormals are zero (operands)
    "aarch64": _Register(0, 1 << 24),  # FPCR: FZ, both
}


@contextmanager
def flushed_to_zero() -> Iterator[None]:
    """Has the processor take subnormal numbers as 0 in this thread during the block, and in threads started there.

    It has no effect where the control register cannot be reached: it is set on Linux, on x86-64 and on 64-bit ARM.
    """
    register = REGISTERS.get(platform.machine()) if sys.platform == "linux" else None
    if register is None:
        yield
        return
    before = _set(register, register.bits)
    try:
        yield
    finally:
        _set(register, before)


def _set(register: _Register, wanted: int) -> int:
    """Sets the bits of the register to those of `wanted`. Returns: what they were."""
    library = ctypes.CDLL(None)
    environment = (ctypes.c_char * ENVIRONMENT_BYTES)()
    library.fegetenv(environment)
    value = ctypes.c_uint32.from_buffer(environment, register.offset)
    before = value.value & register.bits
    value.value = value.value & ~register.bits | wanted
    library.fesetenv(environment)
    return before
