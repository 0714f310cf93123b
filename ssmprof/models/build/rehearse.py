"""A user's code tried without weights and without a device, to tell its errors in a second or two.

Runs in a process of its own: `python -m ssmprof.models.build.rehearse SPEC TOKENS`, SPEC a
`ForeignSpec` as JSON. The module is imported, its function called and one short call made: of a
small model on the CPU, of a large one on the meta device of torch, which computes shapes alone. An
error that only that device has says nothing: then nothing is told, and measuring finds out.
"""

from __future__ import annotations

import json
import subprocess
import sys

from ssmprof.errors import SsmprofError
from ssmprof.spec import ForeignSpec

_MARK = "\x1e"  # before the one line that is ours: user's code prints what it likes
_SHORT = 32  # tokens of the call
_SMALL = 20_000_000  # parameters of a model that is built twice, the second time with weights
# What shapes alone bring about; anything else may be the meta device's.
_PLAIN = (AttributeError, IndexError, KeyError, NameError, TypeError, ZeroDivisionError)
_SHAPES = ("shape", "size", "dimension")
_WAIT_S = 60.0


def rehearse(spec: ForeignSpec, tokens: int) -> tuple[str, str | None] | None:
    """What is wrong with a user's code, and how to mend it; None where nothing is known to be."""
    import msgspec

    command = [sys.executable, "-m", "ssmprof.models.build.rehearse"]
    text = msgspec.json.encode(spec).decode()
    try:
        done = subprocess.run(
            [*command, text, str(tokens)],
            capture_output=True, text=True, timeout=_WAIT_S, check=False, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    for line in done.stdout.split("\n"):  # splitlines would split at the mark
        if line.startswith(_MARK):
            what, fix = json.loads(line[1:])
            return what, fix
    return None


def _tried(spec: ForeignSpec, tokens: int) -> tuple[str, str | None] | None:
    import torch

    from ssmprof.models.build import foreign
    from ssmprof.models.build.inputs import example_of
    from ssmprof.records import Point, Prefill

    meta = torch.device("meta")
    try:
        model = foreign.build(spec, meta, torch.float32, 0, "none")
    except SsmprofError as error:
        told = f"{error.what}: {error.cause}" if error.cause else error.what
        return told, error.fix
    except Exception as error:
        return None if "meta" in str(error).lower() else (_said(error), None)
    if sum(one.numel() for one in model.module.parameters()) <= _SMALL:
        # Shapes alone need imports that take longer than a small model does.
        model = foreign.build(spec, torch.device("cpu"), torch.float32, 0, "none")
    elif spec.input is not None:  # numbers are drawn elsewhere: that device has no generator
        model.example = example_of(spec, model.module, torch.device("cpu"), torch.float32, 0)
    point = Point(
        block=spec.name, block_digest="", workload=Prefill(context=min(tokens, _SHORT)),
        dtype="float32", execution="eager",
    )  # fmt: skip
    try:
        foreign.prepare(model, point).run()
    except SsmprofError as error:
        return error.what, error.fix
    except Exception as error:
        text = str(error)
        plain = isinstance(error, _PLAIN) or any(word in text for word in _SHAPES)
        return (_said(error), None) if plain and "meta" not in text.lower() else None
    return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def main() -> None:
    """Try what the arguments name and write what is wrong, in one line."""
    import msgspec

    spec = msgspec.json.decode(sys.argv[1], type=ForeignSpec)
    found = _tried(spec, int(sys.argv[2]))
    if found is not None:
        sys.stdout.write(f"\n{_MARK}{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
