"""`python -m virtual ...`: the ssmprof command, with formula workers in place of measured ones.

Launcher, pool, journal and command line are the real ones; `fakes` says how workers die on command.
"""

from __future__ import annotations

import fakes

from ssmprof.cli import main
from ssmprof.measure.client import Client

if __name__ == "__main__":
    Client.__init__.__kwdefaults__["runner"] = fakes.RUNNER
    main()
