"""`ssmprof trace MODEL`: a model nobody wrote for ssmprof, traced in a process of its own."""

import json
import time

import pytest

from ssmprof.cli import main

MODEL = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 16), nn.SiLU(), nn.LayerNorm(16))
"""


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0), *capsys.readouterr()


def test_a_foreign_model_is_traced_without_a_change_to_it(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODEL)
    code, out, err = _run(
        capsys, "trace", f"{tmp_path}/mine.py:tiny", "--context", "64", "--device", "cpu"
    )
    assert code == 0, err
    for words in (("aten::embedding", "embedding"), ("aten::linear", "gemm"), ("aten::silu",)):
        assert all(word in out for word in words)
    assert "wall-clock" in err


def test_a_model_that_is_not_there_is_one_message(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capsys, "trace", "./nothing.py:tiny", "--device", "cpu")
    assert code == 2
    assert out == ""
    assert "nothing.py" in err
    assert "Traceback" not in err


FLOATS = """
import beside
from torch import nn

def make():
    return nn.Sequential(nn.Linear(256, 64), nn.SiLU())
"""


def test_a_module_of_the_users_own_folder_takes_numbers(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_floats.py").write_text(FLOATS)
    (tmp_path / "beside.py").write_text("")
    typed = ["trace", "mine_of_floats:make", "--context", "64", "--device", "cpu", "--json"]
    code, out, err = _run(capsys, *typed, "--input", "1x{L}x256")
    assert code == 0, err
    assert [row["op"] for row in json.loads(out)] == ["aten::linear", "aten::silu"]
    code, out, err = _run(capsys, *typed)
    assert code == 2
    assert "takes no token ids" in err
    assert "--input 1x{L}x256" in err


def test_code_that_is_not_there_is_told_at_once(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_floats.py").write_text(FLOATS)
    for name in ("nowhere:make", "mine_of_floats:mak", "nowhere.py:make"):
        begin = time.process_time()
        assert _run(capsys, "trace", name)[0] == 2
        assert time.process_time() - begin < 2.0
