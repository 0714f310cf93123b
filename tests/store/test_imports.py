"""Published measurements load as what they are: both shares, whose they are, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ssmprof.analysis import analyze
from ssmprof.analysis.explain.dominance import family_times
from ssmprof.cli import main
from ssmprof.errors import ConfigError
from ssmprof.records import Run
from ssmprof.report.page import Grid
from ssmprof.report.sections import where
from ssmprof.report.verdicts import verdicts_of
from ssmprof.store import folder, ssm_scope
from ssmprof.store.imports import COMPARABLE_FROM, SOURCE
from ssmprof.store.imports import ssm_scope as load

# GPU ms, host ms, share of the SSM_Scan bucket in percent: GPU only, and as published.
PUBLISHED = {
    ("mamba-130m", 256): (30.0, 77.3, 60.8, 58.0),
    ("mamba-130m", 512): (57.8, 84.5, 60.5, 58.4),
    ("mamba-130m", 1024): (63.4, 85.3, 57.9, 57.8),
    ("mamba-130m", 4096): (213.8, 215.6, 56.9, 57.1),
    ("mamba-130m", 16384): (986.3, 988.4, 62.7, 62.1),
    ("mamba-130m", 32768): (1986.9, 1989.1, 63.2, 62.9),
    ("mamba2-130m", 256): (32.2, 108.4, 54.9, 70.8),
    ("mamba2-130m", 512): (79.0, 116.9, 55.3, 66.8),
    ("mamba2-130m", 1024): (78.7, 116.3, 53.2, 65.8),
    ("mamba2-130m", 4096): (208.2, 209.6, 53.8, 62.2),
    ("mamba2-130m", 16384): (831.4, 833.3, 55.1, 58.3),
    ("mamba2-130m", 32768): (1782.7, 2317.5, 56.3, 52.8),
}


@pytest.fixture(scope="module")
def run() -> Run:
    return load()


@pytest.mark.parametrize(("model", "context"), PUBLISHED)
def test_both_shares_of_the_bucket_are_those_of_the_tables(model: str, context: int) -> None:
    found = next(one for one in ssm_scope.buckets() if (one.model, one.context) == (model, context))
    device_ms, host_ms, device_share, published_share = PUBLISHED[model, context]
    assert found.device_s * 1e3 == pytest.approx(device_ms, abs=0.05)
    assert found.host_s * 1e3 == pytest.approx(host_ms, abs=0.05)
    assert found.device_share * 100 == pytest.approx(device_share, abs=0.05)
    assert found.published_share * 100 == pytest.approx(published_share, abs=0.05)


def test_a_hybrid_hardly_spends_time_in_its_scan(run: Run) -> None:
    shares = {one.model: one.device_share for one in ssm_scope.buckets() if one.context == 1024}
    assert shares["zamba2-1.2b"] == pytest.approx(0.085, abs=0.0005)


def test_the_run_says_whose_it_is_and_carries_one_machine(run: Run) -> None:
    assert (run.origin, run.source) == ("published", SOURCE)
    assert "MIT" in SOURCE
    assert len(run.outcomes) == 23
    (machine,) = run.environments.values()
    assert "published" in machine.device
    assert machine.clocks_locked is False
    assert machine.calibration is None


def test_kernels_add_up_to_the_forward_they_are_parts_of(run: Run) -> None:
    for one in run.measurements():
        assert one.attribution is not None
        parts = sum(family_times(one.attribution).values())
        assert parts == pytest.approx(one.attribution.whole_s, rel=0.06), one.point.label()
        assert one.attribution.closure == pytest.approx(abs(1 - parts / one.time_s), abs=1e-9)


def test_attention_is_no_gemm_and_a_convolution_no_scan(run: Run) -> None:
    families = {
        kernel.op: kernel.family
        for one in run.measurements()
        if one.attribution is not None
        for kernel in one.attribution.kernels
    }
    assert families["aten::scaled_dot_product_attention"] == "attention"
    assert families["causalconv1dfn"] == "conv"
    assert families["mambainnerfn"] == "scan"


def test_no_wall_time_is_invented(run: Run) -> None:
    analysis = analyze(run)
    assert {share.of for share in analysis.shares} == {"device"}
    assert not analysis.launches
    assert all(one.cold_s is None and one.host is None for one in run.measurements())
    assert all(one.energy is None for one in run.measurements())
    assert analysis.grade >= "C"


def test_scan_share_of_the_analysis_is_the_one_on_gpu_time(run: Run) -> None:
    found = {
        (share.block, share.context): share.share
        for share in analyze(run).shares
        if share.family == "scan" and share.of == "device"
    }
    assert found["mamba-130m", 32768] == pytest.approx(0.632, abs=0.0005)
    assert found["mamba2-130m", 32768] == pytest.approx(0.563, abs=0.0005)


def test_memory_is_published_for_what_ran_and_a_cache_for_what_has_one() -> None:
    rows = {(one.model, one.context): one for one in ssm_scope.memory_rows()}
    assert len(rows) == 40
    qwen = rows["qwen2.5-0.5b", 16384]
    assert (qwen.reserved_bytes, qwen.kv_bytes) == (6600 * 2**20, 192 * 2**20)
    assert qwen.peak_bytes == pytest.approx(
        qwen.weights_bytes + qwen.activation_bytes + (qwen.kv_bytes or 0), rel=1e-4
    )
    assert max(c for m, c in rows if m == "llama-3.2-1b") == 8192
    assert rows["mamba-790m", 32768].reserved_bytes == 6708 * 2**20
    assert rows["falcon-h1-0.5b", 512].kv_bytes is None  # published as a negative number


def test_the_licence_and_origin_travel_with_the_data() -> None:
    assert "MIT License" in (ssm_scope.FOLDER / "LICENSE").read_text()
    assert "arXiv:2507.12442" in (ssm_scope.FOLDER / "README.md").read_text()


def run_command(*arguments: object) -> object:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_import_writes_a_run_that_reports_as_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("import", "ssm-scope", "-o", tmp_path / "run") == 0
    assert "23 published outcomes" in capsys.readouterr().err
    again = folder.load(tmp_path / "run")
    assert (again.origin, len(again.outcomes)) == ("published", 23)
    page = tmp_path / "page.html"
    assert run_command("report", tmp_path / "run", "-o", page) == 0
    text = page.read_text()
    assert "ssmprof did not measure them" in text
    assert "as published: of CPU + GPU time" in text
    assert "62.9 %" in text  # mamba-130m at 32K by the paper's denominator
    assert "63.2 %" in text  # and on GPU time


def test_the_heading_is_drawn_from_lengths_that_compare_only(run: Run) -> None:
    short = replace(
        run, outcomes=tuple(o for o in run.outcomes if o.point.context < COMPARABLE_FROM)
    )
    sentences = {one.sentence for one in verdicts_of(short, analyze(short)).values()}
    assert sentences == {
        "No finding: every length was shorter than 4K tokens, where these times do not compare."
    }
    analysis = analyze(run)
    for one in analysis.latencies:
        contexts = {point.context for point in one.curves}
        assert min(contexts) < COMPARABLE_FROM  # shown
        assert all(standing.context >= COMPARABLE_FROM for standing in one.standings)
    found = {one.sentence for one in verdicts_of(run, analysis).values()} - sentences
    assert all(one.startswith("From 4K tokens on: ") for one in found if "compare" not in one)


def test_shorter_lengths_are_shown_without_a_winner(run: Run) -> None:
    section = where.section(run, analyze(run))
    assert section is not None
    grid = section.parts[0]
    assert isinstance(grid, Grid)
    least = [length for length, _ in grid.rows].index("4K")
    for _, cells in grid.rows[:least]:
        assert not [c for c in cells if c.css.startswith(("win-", "pair-"))]
    # One profile per length: 3 to 19 % are no more than processes may differ.
    assert len(grid.rows[least:]) == 4
    assert {cells[0].text for _, cells in grid.rows[least:]} == {"mamba2-130m or mamba-130m"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("model,context\nmamba,12\n", "not a table of operators"),
        ("model,context,op,category_published,cpu_time_us,cuda_time_us,calls,iterations\n"
         "mamba,12,aten::add,arithmetic,1,1,1,0\n", "not a table of operators"),
        ("model,context,op,category_published,cpu_time_us,cuda_time_us,calls,iterations\n"
         "mamba,12,aten::add,arithmetic,1,1,10,10\n", "inference_prof"),
        ("model,context,op,category_published,cpu_time_us,cuda_time_us,calls,iterations\n"
         "mamba,12,aten::add,arithmetic,1\n", "not a table of operators"),
    ],
)  # fmt: skip
def test_another_folder_with_a_broken_table_is_refused(
    tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / ssm_scope.OPS).write_text(text)
        (tmp_path / ssm_scope.FOOTPRINTS).write_text("")
    with pytest.raises(ConfigError, match=said):
        load(tmp_path)
