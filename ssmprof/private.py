"""Takes out of text what names a person or a machine.

Two rooms, since two places know different things. `without_own` runs where a run is recorded: it
knows this user, host and home, and takes them out before anything is stored, so that no reader has
to be told them. `redact` runs where a page is made, anywhere: it knows patterns only, and so gives
the same page on every machine.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
import socket
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from pkgutil import iter_modules

from ssmprof import mixers

_SHORT = 3  # shorter names would take pieces out of ordinary words
# Accounts and hosts that half the world has: they name nobody, and stand in ordinary sentences.
_COMMON = frozenset({
    "root", "user", "admin", "ubuntu", "debian", "nvidia", "jetson", "runner", "docker", "vscode",
    "jovyan", "test", "guest", "home", "localhost", "ec2-user", "azureuser", "worker", "builder",
    "host", "node", "main", "default", "linux", "python", "torch", "cuda", "triton", "device",
    "kernel", "model", "memory", "attention", "scan", "conv", "gemm", "norm", "copy", "rope",
}) | frozenset(name for _, name, _ in iter_modules(mixers.__path__))  # fmt: skip
_HOMES = (
    r"(?:/var/home|/export/home|/home|/Users|/mnt/[a-z]/Users|[A-Za-z]:\\+Users|[A-Za-z]:/Users)"
)
# Folders of a system: what lies there is the same on every machine.
_SYSTEM = r"(?:usr|opt|proc|sys|dev|etc|lib|lib64|bin|sbin|snap|boot|var/lib|var/log|content)"
_TAIL = r"[^\s'\"`,;<>|()\[\]{}]*"
_PATHS = re.compile(
    rf"(?<=\")(?:{_HOMES}[/\\]+|/root/)[^\"\n]*(?=\")|(?<=')(?:{_HOMES}[/\\]+|/root/)[^'\n]*(?=')"
    rf"|(?:{_HOMES}[/\\]+|/root(?=/)|(?<![\w.])~(?=/)){_TAIL}"
    rf"|(?<![\w./:~-])/(?!{_SYSTEM}(?:/|\b))(?=[\w.-]+/){_TAIL}"
    rf"|(?<=hf:)/(?!{_SYSTEM}/){_TAIL}"
    r"|(?<![\w\\])[A-Za-z]:\\+[^\s'\"`,;<>|]*"
)
# A name that tells what it is, and hardly whose: what follows the folders of a path.
_FILE = re.compile(
    r"[/\\]([\w-]+\.(?:py|json|jsonl|toml|html|txt|csv|log|so|cu|cpp|cc|c|h|ipynb)(?::\w+)?:?)$"
)
_WHOSE = re.compile(rf"(?:{_HOMES}[/\\]+[^/\\]*|/root|~)")
# No host is a whole number: `qwen3-next@8` is a slice of a model, `name@10.0.0.8` an address.
_MAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?!\d+(?![\w-]|\.[\w-]))[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}(?![\w-])"
)
_HEX = "[0-9a-fA-F]"
_PLAIN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"(?<!{_HEX}){_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}(?!{_HEX})", "<uuid>"),
        (rf"(?<!{_HEX}){_HEX}{{32}}(?!{_HEX})", "<id>"),
        (rf"(?<![:-])(?<!{_HEX})(?:{_HEX}{{2}}[:-]){{5}}{_HEX}{{2}}(?![:-])(?!{_HEX})", "<mac>"),
        (
            r"(?i)\b(serial(?:[ _-]?(?:number|no|nr))?\.?\s*[:=#]?\s*)(?=\S*\d)[\w-]+",
            r"\1<serial>",
        ),
    )
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
# What four numbers with dots follow where they are a version.
_VERSION = re.compile(r"(?i)(?:version|release|driver|cud\w+|cublas\w*|nccl|==|\bv)[ :=-]*$")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,39}(?:%\w+)?(?![\w:])")
# Cheap signs that any of the above could be in a text at all: most texts have none.
_SIGNS = re.compile(r"[/\\@]|[0-9a-fA-F]{2}[:-]|::|\d\.\d+\.\d|[0-9a-fA-F]{32}|(?i:serial)")


@lru_cache(maxsize=65_536)
def redact(text: str) -> str:
    """The text without paths, addresses and numbers that name a person or a machine.

    Of a path only the name of a file stays (`~/…/model.py`). The same on every machine.
    """
    if not _SIGNS.search(text):
        return text
    text = _PATHS.sub(_path, text)
    text = _MAIL.sub("<e-mail>", text)
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return _IPV6.sub(_address, _IPV4.sub(_address, text))


def _path(found: re.Match[str]) -> str:
    whose = _WHOSE.match(found[0])
    file = _FILE.search(found[0][whose.end() :] if whose else found[0])
    root = "~" if whose else ""
    return f"{root}/…/{file[1]}" if file else f"{root}/…"


def _address(found: re.Match[str]) -> str:
    text = found[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    before = found.string[max(0, found.start() - 20) : found.start()]
    if address.is_loopback or address.is_unspecified or _VERSION.search(before):
        return text
    # `c10::add` is an address and a kernel: one has more groups, or a first one that is whole.
    groups = [group for group in text.split(":") if group]
    named = address.version == 6 and len(groups) < 3 and len(groups[0]) < 4
    return text if named else "<address>"


@cache
def _own() -> Callable[[str], str]:
    """Takes this machine's names out of a text; made once, since they do not change."""
    home = _home()
    users = {name for name in (_user(), home.name if home else "", _full_name()) if name}
    hosts = {name for host in _hosts() for name in (host, host.split(".")[0])}
    words = [
        (name, mark)
        for names, mark in ((hosts, "<host>"), (users, "<user>"))
        for name in sorted(names, key=len, reverse=True)
        if len(name) > _SHORT and name.lower() not in _COMMON
    ]
    patterns = [(re.compile(rf"(?i)(?<!\w){re.escape(name)}(?!\w)"), mark) for name, mark in words]
    if home is not None:
        patterns.insert(0, (re.compile(rf"(?<![\w.]){re.escape(str(home))}(?![\w.-])"), "~"))

    def clean(text: str) -> str:
        for pattern, mark in patterns:
            text = pattern.sub(mark, text)
        return text

    return lru_cache(maxsize=65_536)(clean)


def without_own(text: str) -> str:
    """The text without this user's name, this host's and the path of this home (`~`)."""
    return _own()(text)


def at_home(name: str) -> str:
    """A path, or a name that holds one, with `~` for this home: it can still be found."""
    home = _home()
    return name if home is None else re.sub(rf"(?<![\w.]){re.escape(str(home))}(?=/)", "~", name)


def _home() -> Path | None:
    """The home of this user, None where it is the root or not known."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if len(home.parts) > 1 else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such account, as in many containers
        return ""


def _full_name() -> str:
    """The person's name of the account; single words are no name of a person."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0].strip()
    except KeyError:
        return ""
    return name if " " in name else ""


def _hosts() -> set[str]:
    return {name for name in (socket.gethostname(), os.environ.get("HOSTNAME", "")) if name}
