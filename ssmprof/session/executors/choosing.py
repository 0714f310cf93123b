"""Which executor a caller's words mean: this machine's device, all its GPUs, or a scheduler's."""

from __future__ import annotations

from ssmprof.devices import Wanted
from ssmprof.errors import ConfigError
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Executor


def executor_for(
    wanted: Wanted, *, every: bool = False, each: bool = False, fleet: str | None = None
) -> Executor:
    """The first device of a kind; with `every` all GPUs, with `each` all and each for itself; with
    `fleet` those of a scheduler.

    Raises NoDeviceError, and ConfigError where Dask is missing or the address is open to anybody.
    """
    if not (every or each) and fleet is None:
        return Local(wanted)
    try:
        from ssmprof.session.executors.fleet import asked
        from ssmprof.session.executors.fleet.starting import start
    except ImportError as error:
        raise ConfigError(
            "several devices need Dask", cause=str(error), fix="pip install 'ssmprof[fleet]'"
        ) from None
    if fleet is not None:
        return start(asked.read(fleet), wanted)
    return start(asked.LocalAsked(each=each), "cuda")
