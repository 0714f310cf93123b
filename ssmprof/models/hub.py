"""The config.json of an id of the Hugging Face hub: from the local cache, else downloaded.

Weights are never fetched. Without `huggingface_hub` or a network the error says which file to
fetch and where to put it.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from ssmprof.errors import ConfigError

_FILE = "config.json"
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def is_id(name: str) -> bool:
    """Whether a name is written as `org/name`."""
    return _ID.fullmatch(name) is not None and not name.endswith((".json", ".toml", ".py"))


def cache_folder() -> Path:
    """Where the hub's own tools keep files, by the same variables."""
    told = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if told:
        return Path(told).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or str(Path(caches, "huggingface"))
    return Path(home, "hub").expanduser()


def config_of(name: str) -> Path:
    """The config.json of an id. Raises ConfigError where it is not here and cannot be fetched."""
    found = _cached(name)
    return _downloaded(name) if found is None else found


def _cached(name: str) -> Path | None:
    """The newest one in the cache."""
    folder = cache_folder() / f"models--{name.replace('/', '--')}" / "snapshots"
    try:
        files = [file for file in folder.glob(f"*/{_FILE}") if file.is_file()]
        return max(files, key=lambda file: file.stat().st_mtime, default=None)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}") from error


def _downloaded(name: str) -> Path:
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        raise _absent(name, "huggingface_hub is not installed") from None
    try:
        return Path(hub.hf_hub_download(name, _FILE))
    except Exception as error:  # of the network, the server or the package
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _absent(name, lines[0][:200]) from error


def _absent(name: str, cause: str) -> ConfigError:
    short = name.rpartition("/")[2]
    return ConfigError(
        f"{name}: no file or folder, and not in the cache of the hub ({cache_folder()})",
        cause=cause,
        fix=f"save https://huggingface.co/{name}/resolve/main/{_FILE} as {short}/{_FILE}, "
        f"and name the folder {short}",
    )
