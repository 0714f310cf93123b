"""The comparison on whole models: packages that are there but must not be found."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
from benchmarks import compat_models


def test_a_hidden_package_cannot_be_imported_and_is_back_afterwards(monkeypatch):
    real, inner = ModuleType("aeroplane"), ModuleType("aeroplane.wing")
    monkeypatch.setitem(sys.modules, "aeroplane", real)
    monkeypatch.setitem(sys.modules, "aeroplane.wing", inner)
    with compat_models.hidden("aeroplane", "balloon"):
        for name in ("aeroplane", "aeroplane.wing", "balloon"):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)
    assert importlib.import_module("aeroplane") is real
    assert importlib.import_module("aeroplane.wing") is inner
    assert "balloon" not in sys.modules
