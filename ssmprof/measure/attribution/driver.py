"""What a stream capture holds, asked from the CUDA driver: node counts, kinds and kernel names.

With it a boundary gets a mark exactly where something was launched, an interval knows its kernels
without a profiler, and launches that no hook sees are counted all the same. Every function here is
optional: where the driver lacks one, `watch` returns None and callers do without.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

# CUgraphNodeType of cuda.h.
KERNEL, MEMCPY, MEMSET, HOST = 0, 1, 2, 3
EVENT_RECORD = 7
_KIND_NAMES = {MEMCPY: "Memcpy", MEMSET: "Memset", HOST: "host function"}
_WORK = (KERNEL, MEMCPY, MEMSET)
_CAPTURE_ACTIVE = 1


class Node(NamedTuple):
    """One node of a graph; `name` is the kernel's, demangled where possible."""

    kind: int
    name: str

    @property
    def works(self) -> bool:
        """Whether this node occupies the device (a profiler would list it)."""
        return self.kind in _WORK


class _KernelNodeParams(ctypes.Structure):
    _fields_ = (
        ("func", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("parameters", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    )


class Capture:
    """A stream capture in progress."""

    def __init__(self, driver: Any, graph: ctypes.c_void_p) -> None:
        self._driver = driver
        self._graph = graph
        self._names: dict[tuple[int | None, int | None], str] = {}

    def count(self) -> int:
        """Nodes recorded so far."""
        count = ctypes.c_size_t(0)
        _check(self._driver.cuGraphGetNodes(self._graph, None, ctypes.byref(count)))
        return count.value

    def launches(self) -> int:
        """Nodes that occupy the device; no name is asked for, which takes longest."""
        return sum(self._kind(handle) in _WORK for handle in self._handles())

    def nodes(self) -> list[Node]:
        """Every node in the order it was recorded."""
        return [self._node(handle) for handle in self._handles()]

    def _handles(self) -> list[int | None]:
        count = ctypes.c_size_t(self.count())
        handles = (ctypes.c_void_p * max(1, count.value))()
        _check(self._driver.cuGraphGetNodes(self._graph, handles, ctypes.byref(count)))
        return handles[: count.value]

    def _kind(self, handle: int | None) -> int:
        kind = ctypes.c_int(0)
        _check(self._driver.cuGraphNodeGetType(ctypes.c_void_p(handle), ctypes.byref(kind)))
        return kind.value

    def _node(self, handle: int | None) -> Node:
        kind = self._kind(handle)
        name = self._kernel_name(handle) if kind == KERNEL else _KIND_NAMES.get(kind, "")
        return Node(kind, name)

    def _kernel_name(self, handle: int | None) -> str:
        parameters = _KernelNodeParams()
        read = getattr(self._driver, "cuGraphKernelNodeGetParams_v2", None)
        if read is None or read(ctypes.c_void_p(handle), ctypes.byref(parameters)):
            return ""
        kernel = parameters.func, parameters.kernel
        if kernel not in self._names:  # a loop launches few kernels often
            self._names[kernel] = self._asked_name(parameters)
        return self._names[kernel]

    def _asked_name(self, parameters: _KernelNodeParams) -> str:
        name = ctypes.c_char_p()
        for function, subject in (
            ("cuFuncGetName", parameters.func),
            ("cuKernelGetName", parameters.kernel),
        ):
            ask = getattr(self._driver, function, None)
            if subject and ask and not ask(ctypes.byref(name), ctypes.c_void_p(subject)):
                return demangle((name.value or b"").decode(errors="replace"))
        return ""


def watch(stream: int) -> Capture | None:
    """The capture in progress on this stream, or None if the driver cannot show it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        status, identity = ctypes.c_int(0), ctypes.c_uint64(0)
        graph = ctypes.c_void_p()
        _check(
            driver.cuStreamGetCaptureInfo_v2(
                ctypes.c_void_p(stream),
                ctypes.byref(status),
                ctypes.byref(identity),
                ctypes.byref(graph),
                None,
                None,
            )
        )
    except (OSError, AttributeError, RuntimeError):
        return None
    return Capture(driver, graph) if status.value == _CAPTURE_ACTIVE and graph.value else None


def fill(pointer: int, size: int, stream: int) -> None:
    """Set `size` bytes on the device to zero by a fill of the driver's own, not by a kernel.

    Without such a driver it does nothing.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        submit = driver.cuMemsetD8Async
    except (OSError, AttributeError):
        return
    submit(
        ctypes.c_uint64(pointer), ctypes.c_ubyte(0), ctypes.c_size_t(size), ctypes.c_void_p(stream)
    )


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"CUDA driver error {status}")


def demangle(name: str) -> str:
    """`_ZN2at6native...` -> `at::native::...`; a name that is not mangled comes back as it is."""
    if not name.startswith("_Z"):
        return name
    try:
        library = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return name
    library.__cxa_demangle.restype = ctypes.c_void_p
    status = ctypes.c_int(0)
    result = library.__cxa_demangle(name.encode(), None, None, ctypes.byref(status))
    if status.value or not result:
        return name
    text = ctypes.string_at(result).decode(errors="replace")
    free = ctypes.CDLL(None).free
    free.argtypes = (ctypes.c_void_p,)
    free(result)
    return text
