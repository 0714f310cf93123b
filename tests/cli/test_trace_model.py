"""`ssmprof trace MODEL`: a model nobody wrote for ssmprof, traced in a process of its own."""

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
