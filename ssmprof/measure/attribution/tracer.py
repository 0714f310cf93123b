"""Op boundaries of any model: torch's dispatcher, Triton's launch hooks and named scopes.

The model is not changed. Under inference mode the dispatch mode sees every aten or registered op
as the model calls it, so fused autograd functions dissolve by themselves; launch hooks see Triton
kernels that bypass the dispatcher; scopes name the rows: `with scope(...)` in our blocks, forward
hooks by qualified name in foreign modules. Raw launches of an extension are seen by none of these:
their time falls into the interval of the next boundary, and the count of graph nodes in it tells.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssmprof import scopes

# Ops that allocate, re-shape or ask; none of them starts a kernel. Views are found by their schema.
_HOST_ONLY = frozenset(
    {
        "empty",
        "empty_like",
        "empty_strided",
        "empty_permuted",
        "new_empty",
        "new_empty_strided",
        "detach",
        "alias",
        "resize_",
        "set_",
        "lift",
        "lift_fresh",
        "_unsafe_view",
        "_reshape_alias",
        "result_type",
        "is_pinned",
        "is_same_size",
        "record_stream",
        "scalar_tensor",
    }
)

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Op(NamedTuple):
    """One boundary: what ran since the boundary before it."""

    scope: str
    core: str | None
    op: str
    kernel: str


class Recorder(Protocol):
    """Told around each op that may run on the device."""

    def before(self) -> None: ...

    def after(self, op: Op) -> None: ...


class ScopeStack:
    """The listener of scopes: full names, outermost first, with the core family of each level."""

    def __init__(self) -> None:
        self._levels: list[tuple[str, str | None]] = [("", None)]

    def enter(self, name: str, core: str | None) -> None:
        outer = self._levels[-1][0]
        self._levels.append((f"{outer}.{name}" if outer else name, core))

    def enter_module(self, qualified: str, core: str | None = None) -> None:
        """A module's qualified name is complete in itself; it is not appended to the outer one."""
        self._levels.append((qualified, core))

    def leave(self) -> None:
        self._levels.pop()

    @property
    def current(self) -> tuple[str, str | None]:
        return self._levels[-1]


class _DispatchMode(TorchDispatchMode):
    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name.rsplit("::", 1)[-1] in _HOST_ONLY or (func.is_view and not _is_composite(func)):
            return func(*args, **kwargs)
        return self._tracer.run(name, lambda: func(*args, **kwargs), args if func.is_view else ())


@cache
def _is_composite(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE.name)


def _shares_storage(result: Any, args: Any) -> bool:
    """Whether a view-like composite op (reshape, contiguous, to) came out as a view."""
    if not args or not isinstance(args[0], torch.Tensor):
        return False
    first = result[0] if isinstance(result, list | tuple) and result else result
    if not isinstance(first, torch.Tensor):
        return False
    return first.untyped_storage()._cdata == args[0].untyped_storage()._cdata


class Tracer:
    """Runs a call and tells a recorder about every op of it."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.scopes = ScopeStack()
        self.last = "nothing"
        self._outer: str | None = None

    def run(self, name: str, op: Callable[[], Any], viewed: Any = ()) -> Any:
        """Execute one dispatched op between two boundaries; none after it if it only `viewed`.

        A composite op stays whole: taking it apart under the tracer would choose other kernels than
        the call does alone (a fused norm falls back to its parts when somebody listens).
        """
        self.last = name
        nested, self._outer = self._outer, self._outer or name
        if nested is not None:  # the insides of an op belong to it
            return op()
        try:
            self.recorder.before()
            result = op()
            if not (viewed and _shares_storage(result, viewed)):
                self.recorder.after(Op(*self.scopes.current, name, ""))
        finally:
            self._outer = nested
        return result

    def _launch_enter(self, metadata: Any) -> None:
        if self._outer is None:
            self.recorder.before()

    def _launch_exit(self, metadata: Any) -> None:
        kernel = str(metadata.get().get("name", "")) if metadata is not None else ""
        self.last = kernel
        self.recorder.after(Op(*self.scopes.current, self._outer or "triton", kernel))

    @contextmanager
    def tracing(self, module: torch.nn.Module | None = None) -> Generator[Tracer, None, None]:
        """Trace what runs inside; `module` is a foreign model whose submodules name the rows."""
        with ExitStack() as stack:
            stack.enter_context(scopes.listening(self.scopes))
            stack.enter_context(_triton_hooks(self._launch_enter, self._launch_exit))
            if module is not None:
                stack.enter_context(_module_scopes(module, self.scopes))
            stack.enter_context(_DispatchMode(self))
            yield self


def _core_of(part: torch.nn.Module) -> str | None:
    """Family of a module that holds one operator by its class: norms and rotary embeddings."""
    if next(part.children(), None) is not None:
        return None
    kind = type(part).__name__.lower()
    return "norm" if "norm" in kind else "rope" if "rotary" in kind else None


@contextmanager
def _module_scopes(module: torch.nn.Module, stack: ScopeStack) -> Generator[None, None, None]:
    handles: list[Any] = []
    try:
        for name, part in module.named_modules():
            if not name:
                continue
            core = _core_of(part)
            handles.append(
                part.register_forward_pre_hook(
                    lambda *_, name=name, core=core: stack.enter_module(name, core)
                )
            )
            handles.append(part.register_forward_hook(lambda *_: stack.leave(), always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _triton_hooks(
    enter: Callable[[Any], None], leave: Callable[[Any], None]
) -> Generator[None, None, None]:
    """Triton 3.4 and later keep chains of hooks; without Triton there is nothing to see."""
    try:
        from triton import knobs
    except ImportError:
        yield
        return
    runtime: Any = knobs.runtime
    runtime.launch_enter_hook.add(enter)
    runtime.launch_exit_hook.add(leave)
    try:
        yield
    finally:
        runtime.launch_enter_hook.remove(enter)
        runtime.launch_exit_hook.remove(leave)
