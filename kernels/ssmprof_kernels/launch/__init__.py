"""How operations launch: facts of the device, tables of configurations, recorded launches.

`devices` knows the GPU, `tables` and `writing` its configurations; `replay` is one recorded launch,
`recorded` the launcher that keeps them by shape.
"""

from ssmprof_kernels.launch.devices import (
    FILL_BUCKETS,
    LENGTH_BUCKETS,
    SHARED_BYTES,
    DeviceFacts,
    facts,
    fill_bucket,
    length_bucket,
    pretend,
)
from ssmprof_kernels.launch.tables import (
    SHIPPED,
    SIBLINGS,
    Choice,
    Lookup,
    chosen,
    forget,
    lookups,
    pick,
    resolve,
    table,
)
from ssmprof_kernels.launch.writing import digests, merge, write

__all__ = [
    "FILL_BUCKETS",
    "LENGTH_BUCKETS",
    "SHARED_BYTES",
    "SHIPPED",
    "SIBLINGS",
    "Choice",
    "DeviceFacts",
    "Lookup",
    "chosen",
    "digests",
    "facts",
    "fill_bucket",
    "forget",
    "length_bucket",
    "lookups",
    "merge",
    "pick",
    "pretend",
    "resolve",
    "table",
    "write",
]
