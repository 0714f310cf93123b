"""Where scenarios are: in the checkout, or beside an installed package. A path wins over a name."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from ssmprof.errors import ConfigError, nearest


def shipped() -> dict[str, Path]:
    """Name -> file of every scenario that comes with ssmprof."""
    root = Path(__file__).parents[2]  # a checkout, or site-packages
    if (root / "pyproject.toml").is_file():
        found = list((root / "scenarios").glob("*.toml"))
    else:
        try:
            files = metadata.files("ssmprof") or []
        except metadata.PackageNotFoundError:
            files = []
        recorded = [file for file in files if file.match("share/ssmprof/scenarios/*.toml")]
        found = [path for file in recorded if (path := Path(str(file.locate()))).is_file()]
        # pip install --target records no data files, but puts them there
        found = found or list((root / "share/ssmprof/scenarios").glob("*.toml"))
    return {path.stem: path for path in sorted(found)}


def find(name: str) -> Path:
    """The file of a scenario given by path or by name. Raises ConfigError with the nearest name."""
    path = Path(name)
    if path.is_file():
        return path
    known = shipped()
    if name in known:
        return known[name]
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise ConfigError(f"{name}: no such file", fix="ssmprof scenarios lists the shipped ones")
    raise ConfigError(
        f'no scenario is named "{name}"{nearest(name, known)}',
        fix="ssmprof scenarios lists them; a file is named by its path",
    )


def starter() -> str:
    """The text that `ssmprof new` writes: a small scenario with every key explained."""
    return (Path(__file__).parent / "starter.toml").read_text(encoding="utf-8")
