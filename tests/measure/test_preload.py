"""A launcher imports much and touches no device."""

from __future__ import annotations

import os
import sys

import torch

from ssmprof.measure.workers import preload


def test_preloading_imports_what_workers_need_and_touches_no_device():
    preload.preload()
    assert "ssmprof_kernels.ssd.op" in sys.modules
    assert not torch.cuda.is_initialized()
    assert not preload.device_touched()
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_an_open_file_of_a_driver_is_noticed(monkeypatch):
    monkeypatch.setattr(preload, "_DEVICE_FILES", ("/dev/zero",))
    assert not preload.device_touched()
    with open("/dev/zero", "rb"):
        assert preload.device_touched()
