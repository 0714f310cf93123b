"""OPS: one entry per operation, three functions of one signature, usable as documented."""

from __future__ import annotations

import inspect

import pytest
import ssmprof_kernels
import torch
from ssmprof_kernels import OPS, door


@pytest.mark.parametrize("name", OPS)
def test_every_operation_is_a_function_of_the_package_and_documented(name):
    op = OPS[name]
    assert getattr(ssmprof_kernels, name) is op.kernel
    assert getattr(ssmprof_kernels.reference, name) is op.plain
    assert op.kernel.__name__ == op.plain.__name__ == name
    documentation = inspect.getdoc(op.kernel) or ""
    assert "Args:" in documentation
    assert "Raises:" in documentation


@pytest.mark.parametrize("name", OPS)
def test_kernel_and_plain_form_take_the_same_arguments(name):
    kernel = inspect.signature(OPS[name].kernel).parameters
    plain = inspect.signature(OPS[name].plain).parameters
    assert list(kernel) == list(plain)
    assert [p.default for p in kernel.values()] == [p.default for p in plain.values()]


@pytest.mark.parametrize("name", OPS)
def test_the_walk_takes_every_tensor_the_kernel_takes(name):
    kernel = set(inspect.signature(OPS[name].kernel).parameters)
    walk = set(inspect.signature(OPS[name].sequential).parameters)
    assert kernel - walk <= {"return_final_state", "out", "overlap"}


def test_the_door_names_argument_given_and_expected():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"z must have shape \(B,L\) = \(2, 4\), got \(2, 3\)"):
        door.shape("z", x, (2, 4), "(B,L)")
    with pytest.raises(ValueError, match=r"z of shape .* must be float32, got int64"):
        door.dtype("z", x.long(), (torch.float32,))
    with pytest.raises(ValueError, match=r"w of shape .* is on meta, expected cpu"):
        door.same_device(x, z=x, w=x.to("meta"))
    with pytest.raises(ValueError, match="batch 1, got batch 2"):
        door.cu_seqlens(torch.zeros(3, dtype=torch.int32), 2)
    assert door.cu_seqlens(torch.zeros(3, dtype=torch.int32), 1) == 2
