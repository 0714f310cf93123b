"""The launch tables: lookup order, borrowed tables, shared-memory limits, merging."""

from __future__ import annotations

import json

import pytest
import torch
import triton
from ssmprof_kernels import launch
from ssmprof_kernels.launch import tables as tables_module

DEFAULT = {"BLOCK": 64}


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setattr(tables_module, "SHIPPED", tmp_path)
    monkeypatch.delenv("SSMPROF_KERNELS_CONFIGS", raising=False)
    launch.forget()
    yield tmp_path
    launch.forget()


def put(folder, sm, *, block, bucket="bf16-1K", **extra):
    return launch.write(
        "op", bucket, {"BLOCK": block}, 0.1, folder=folder, sm=sm, device="test", **extra
    )


@pytest.mark.parametrize(
    ("length", "bucket"),
    [(1, "256"), (256, "256"), (257, "1K"), (4096, "4K"), (4097, "16K"), (16385, "more")],
)
def test_lengths_fall_into_five_coarse_buckets(length, bucket):
    assert launch.length_bucket(length) == bucket
    assert bucket in launch.LENGTH_BUCKETS


def test_fill_buckets_count_programs_per_multiprocessor():
    got = [launch.fill_bucket(n, 100) for n in (1, 50, 51, 100, 200, 400, 401)]
    assert got == ["p0.5", "p0.5", "p1", "p1", "p2", "p4", "pmore"]
    assert set(got) == set(launch.FILL_BUCKETS)


def test_a_device_without_a_table_gets_the_default_tagged_untuned(tables):
    choice = launch.pick("op", "bf16-1K", torch.device("cpu"), DEFAULT)
    assert choice == launch.Choice(DEFAULT, False, "default")


def test_the_exact_capability_wins_and_counts_as_tuned(tables):
    put(tables, 80, block=80)
    put(tables, 87, block=87)
    choice = launch.resolve("op", "bf16-1K", 87, 1 << 20, DEFAULT)
    assert choice.meta == {"BLOCK": 87}
    assert choice.tuned


@pytest.mark.parametrize(("sm", "lender"), sorted(launch.SIBLINGS.items()))
def test_a_sibling_lends_its_table_but_stays_untuned(tables, sm, lender):
    put(tables, lender, block=lender)
    choice = launch.resolve("op", "bf16-1K", sm, 1 << 20, DEFAULT)
    assert choice == launch.Choice({"BLOCK": lender}, False, f"shipped sm_{lender}")


def test_the_users_table_is_asked_first(tables, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    put(tables, 90, block=1)
    put(mine, 90, block=2)
    monkeypatch.setenv("SSMPROF_KERNELS_CONFIGS", str(mine))
    launch.forget()
    choice = launch.resolve("op", "bf16-1K", 90, 1 << 20, DEFAULT)
    assert choice == launch.Choice({"BLOCK": 2}, True, "user sm_90")


def test_an_entry_beyond_the_shared_memory_of_the_device_is_passed_over(tables):
    put(tables, 90, block=256, shared=200_000)
    assert launch.resolve("op", "bf16-1K", 90, 232_448, DEFAULT).meta == {"BLOCK": 256}
    assert launch.resolve("op", "bf16-1K", 90, 101_376, DEFAULT).meta == DEFAULT


def test_an_entry_of_another_triton_minor_is_used_but_untuned(tables, monkeypatch):
    put(tables, 90, block=7)
    monkeypatch.setattr(triton, "__version__", "9.9.0")
    launch.forget()
    choice = launch.resolve("op", "bf16-1K", 90, 1 << 20, DEFAULT)
    assert choice.meta == {"BLOCK": 7}
    assert not choice.tuned


def test_what_a_table_of_an_earlier_kernel_lacks_comes_from_the_default(tables):
    put(tables, 90, block=7)
    choice = launch.resolve("op", "bf16-1K", 90, 1 << 20, {"prefix": True, **DEFAULT})
    assert choice == launch.Choice({"prefix": True, "BLOCK": 7}, False, "shipped sm_90")


def test_writing_keeps_what_other_operations_and_buckets_hold(tables):
    put(tables, 90, block=1)
    path = put(tables, 90, block=2, bucket="bf16-4K", error=1e-3)
    launch.write("other", "x", {"BLOCK": 3}, 0.2, folder=tables, sm=90, device="test")
    data = json.loads(path.read_text())
    assert sorted(data) == ["op", "other"]
    assert data["op"]["bf16-1K"]["meta"] == {"BLOCK": 1}
    assert data["op"]["bf16-4K"]["error"] == 1e-3
    assert data["op"]["bf16-4K"]["triton"] == triton.__version__


def test_a_table_tuned_elsewhere_merges_by_name(tables, tmp_path):
    away = put(tmp_path / "away", 90, block=5)
    put(tables, 90, block=1, bucket="bf16-4K")
    launch.merge(away, folder=tables)
    assert launch.resolve("op", "bf16-1K", 90, 1 << 20, DEFAULT).meta == {"BLOCK": 5}
    assert launch.resolve("op", "bf16-4K", 90, 1 << 20, DEFAULT).meta == {"BLOCK": 1}


def test_a_digest_follows_the_tables_of_its_operation(tables):
    assert launch.digests() == {}
    put(tables, 90, block=1)
    one = launch.digests()
    put(tables, 90, block=2)
    assert list(one) == ["op"]
    assert launch.digests()["op"] != one["op"]


@pytest.mark.parametrize("text", ["{broken", "[]"])
def test_a_damaged_table_is_named_in_one_error(tables, text):
    path = tables / "sm_90.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"sm_90\.json"):
        launch.resolve("op", "bf16-1K", 90, 1 << 20, DEFAULT)


def test_repeated_picks_return_the_same_object(tables):
    device = torch.device("cpu")
    assert launch.pick("op", "b", device, DEFAULT) is launch.pick("op", "b", device, DEFAULT)


def test_shipped_tables_hold_measured_entries_only():
    for path in launch.SHIPPED.glob("sm_*.json"):
        for op, buckets in launch.table(path).items():
            for bucket, entry in buckets.items():
                assert set(entry) >= {"meta", "ms", "triton", "device", "date"}, (op, bucket)
                assert entry["ms"] > 0
