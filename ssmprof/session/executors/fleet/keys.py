"""Temporary keys of a fleet that is started here: made for it, placed where it runs, removed.

One self-signed certificate serves scheduler, workers and client: whoever holds the key takes part,
and nobody else. Beyond this host nothing is said without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.config
from distributed.security import Security

from ssmprof.errors import ConfigError

FILES = ("ca.pem", "cert.pem", "key.pem")
_ROLES = ("scheduler", "worker", "client")


def temporary() -> Security:
    """A key pair in memory. Raises ConfigError where the library that makes it is missing."""
    try:
        return Security.temporary()
    except ImportError as error:
        raise ConfigError(
            "the keys of a fleet cannot be made",
            cause=str(error),
            fix="pip install 'ssmprof[fleet]'",
        ) from None


def contents(security: Security) -> dict[str, str]:
    """File name -> PEM of a key pair in memory."""
    role = security.get_tls_config_for_role("scheduler")
    return {"ca.pem": role["ca_file"], "cert.pem": role["cert"], "key.pem": role["key"]}


def write(security: Security, folder: Path) -> None:
    """Write the files, readable to this user alone, into a folder that is."""
    for name, text in contents(security).items():
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(text)


def placed(folder: str) -> Security:
    """The key pair whose files lie in `folder`."""
    files = {"cert": f"{folder}/cert.pem", "key": f"{folder}/key.pem"}
    roles = {f"tls_{role}_{name}": at for role in _ROLES for name, at in files.items()}
    return Security(require_encryption=True, tls_ca_file=f"{folder}/ca.pem", **roles)


def settings(folder: str) -> dict[str, Any]:
    """Dask's settings for whoever has the files in `folder`: TLS, and nothing without it."""
    files = {"cert": f"{folder}/cert.pem", "key": f"{folder}/key.pem"}
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.default-scheme": "tls",
        "distributed.comm.tls.ca-file": f"{folder}/ca.pem",
        **{
            f"distributed.comm.tls.{role}.{name}": at
            for role in _ROLES
            for name, at in files.items()
        },
    }


@contextmanager
def configured(folder: str) -> Iterator[None]:
    """Processes that are started inside take their settings along, with the keys in `folder`."""
    with dask.config.set(settings(folder)):
        yield
