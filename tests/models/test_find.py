"""Whatever names a model is found in one place, and what is not there says how to get it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from models.published import config

from ssmprof.errors import ConfigError
from ssmprof.models import hub
from ssmprof.models.cost import parameters
from ssmprof.models.find import find, is_named, preset_named, suggestion
from ssmprof.models.recipe import Slice

ID = "Qwen/Qwen3-8B"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, no package that downloads, and an empty folder to stand in."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def written(file: Path, values: Any, seconds: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values), encoding="utf-8")
    os.utime(file, (seconds, seconds))
    return file


def snapshot(home: Path, revision: str, values: Any, seconds: int) -> Path:
    folder = home / "hf" / "hub" / "models--Qwen--Qwen3-8B" / "snapshots"
    return written(folder / revision / "config.json", values, seconds)


def test_a_preset_and_a_slice_of_it():
    assert find("mamba2-780m").name == "mamba2-780m"
    found = find("mamba2-780m@8")
    assert found == preset_named("mamba2-780m@8")
    assert found.slice == Slice(of="mamba2-780m", layers=8, whole=48)
    assert is_named("mamba2-780m")
    assert is_named("mamba2-780m@8")


def test_a_file_its_folder_and_a_slice_of_either(home: Path):
    file = written(home / "m@i" / "qwen" / "config.json", config("qwen3-8b"))
    assert find(str(file)) == find(str(file.parent))
    assert find(str(file)).name == "qwen"
    assert len(find(f"{file}@4").layers) == 8
    assert find(f"{file.parent}@4").name == "qwen@4"
    other = written(home / "other.json", config("qwen3-8b"))
    assert find(str(other)).name == "other"
    for name in (file, file.parent, other, f"{file}@4"):
        assert is_named(str(name))


def test_an_id_is_looked_up_in_the_cache_and_the_newest_counts(home: Path):
    snapshot(home, "new", config("qwen3-8b"), 2000)
    snapshot(home, "old", config("qwen3-8b", num_hidden_layers=2), 1000)
    found = find(ID)
    assert (found.name, len(found.layers)) == ("Qwen3-8B", 72)
    assert find(f"{ID}@2").name == "Qwen3-8B@2"
    assert is_named(ID)
    assert is_named(f"{ID}@2")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"HF_HOME": "", "XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_own_tools_have_it(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub.cache_folder() == Path(folder)


def test_an_id_that_is_not_here_is_fetched_and_nothing_but_its_config(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, str]] = []

    def fetched(name: str, file: str) -> str:
        asked.append((name, file))
        return str(written(home / "fetched" / "abc" / "config.json", config("qwen3-8b")))

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=fetched))
    assert find(ID).name == "Qwen3-8B"
    assert asked == [(ID, "config.json")]


def test_an_id_that_cannot_be_fetched_says_which_file_to_put_where(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(name: str, file: str) -> str:
        raise OSError("no route to the hub\nand much more")

    package = SimpleNamespace(hf_hub_download=fails)
    for module, cause in ((None, "huggingface_hub is not installed"), (package, "no route to the")):
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        with pytest.raises(ConfigError) as caught:
            find(ID)
        told = str(caught.value)
        assert cause in told
        assert f"{home}/hf/hub" in told
        assert "https://huggingface.co/Qwen/Qwen3-8B/resolve/main/config.json" in told
        assert "Qwen3-8B/config.json" in told
        assert len(told.splitlines()) == 3


def test_a_run_is_no_model_and_a_missing_file_is_named(home: Path):
    (home / "here" / "runs" / "one").mkdir(parents=True)
    assert not is_named("runs/one")
    assert not is_named("nothing")
    assert not is_named("scenario.toml")
    with pytest.raises(ConfigError, match=r"^nowhere/config\.json: No such file"):
        find("nowhere/config.json")
    with pytest.raises(ConfigError, match="No such file"):
        find("./nowhere")


@pytest.mark.parametrize("name", ["x\0y", "a" * 5000, "a/b/c", "", "@8", "..", "a@b"])
def test_a_name_that_nothing_can_have_is_one_error(name: str):
    is_named(name)
    with pytest.raises(ConfigError):
        find(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("olmo3", '"olmo3" needs norms after each sub-layer'),
        ("OLMo-2-7B-Instruct", '"olmo2" needs norms after'),
        ("mamba2-780", 'did you mean "mamba2-780m"?'),
    ],
)
def test_what_a_family_needs_comes_before_a_near_name(name: str, told: str):
    with pytest.raises(ConfigError) as caught:
        find(name)
    assert told in caught.value.what
    assert told in suggestion(name, ["mamba2-780m", "olmo-hybrid-7b"])


def test_a_slice_is_counted_as_what_it_is():
    whole = find("mamba2-780m")
    assert parameters(find("mamba2-780m@24")) < parameters(whole)
    with pytest.raises(ConfigError, match="the model has 48 layers"):
        find("mamba2-780m@48")
