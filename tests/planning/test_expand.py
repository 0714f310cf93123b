"""Jobs of a scenario: every point in every round, ordered so that drift hits all blocks alike."""

from itertools import groupby

import pytest
from make import scenario

from ssmprof.errors import ConfigError
from ssmprof.planning.expand import expand, jobs
from ssmprof.planning.strategies.facets import Facet, apart, visit
from ssmprof.records import Sampling
from ssmprof.spec import Budget, Passes

ASKED = scenario(
    "attention",
    "mamba1",
    "mamba2",
    contexts=(512, 1024, 2048, 4096, 6000, 8192),
    phase=("prefill", "decode"),
    execution=("graph", "eager"),
    budget=Budget(rounds=4),
    passes=Passes(energy=True, host=True),
)


def test_every_point_is_asked_once_in_every_round():
    found = expand(ASKED)
    assert len(found) == 4 * 3 * 2 * 6 * 2
    assert len({job.key for job in found}) == len(found)


def test_a_worker_serves_one_block_of_one_round_in_one_piece():
    pieces = [key for key, _ in groupby((job.round, job.point.block) for job in expand(ASKED))]
    assert len(pieces) == len(set(pieces)) == 4 * 3


def test_the_next_round_visits_the_blocks_in_reverse():
    order = [
        [name for name, _ in groupby(job.point.block for job in expand(ASKED) if job.round == turn)]
        for turn in range(4)
    ]
    assert order[1] == order[0][::-1]
    assert order[2] == order[0]


def test_steps_come_before_prompts_which_heat_the_card():
    assert ASKED.sweep.phase == ("prefill", "decode")
    for _, jobs_of in groupby(expand(ASKED), key=lambda job: (job.round, job.point.block)):
        assert [phase for phase, _ in groupby(job.point.phase for job in jobs_of)] == [
            "decode",
            "prefill",
        ]
    step, prompt = Facet("decode", 1, "graph"), Facet("prefill", 1, "graph")
    wanted = {prompt: (512, 2048), step: (1024, 8192)}
    names = [block.name for block in ASKED.blocks]
    asked = visit(ASKED, wanted, names, 1, Sampling())
    order = [(group[0].phase, group[0].context) for group in asked.points]
    assert order == [("decode", 1024), ("decode", 8192), ("prefill", 512), ("prefill", 2048)]
    alone = [job.point.phase for job in apart(ASKED, wanted, names[:1], 1)]
    assert alone == ["decode", "decode", "prefill", "prefill"]


def test_lengths_are_shuffled_but_those_that_may_not_fit_come_last_ascending():
    found = [job for job in expand(ASKED) if job.point.block == "mamba2"]
    orders = {
        tuple(
            job.point.context
            for job in found
            if (job.round, job.point.phase, job.point.execution) == (turn, phase, "graph")
        )
        for turn in range(4)
        for phase in ("prefill", "decode")
    }
    assert {order[-2:] for order in orders} == {(6000, 8192)}
    assert len(orders) > 2


def test_the_same_scenario_gives_the_same_jobs():
    assert expand(ASKED) == expand(ASKED)


def test_a_cpu_has_no_graphs():
    assert {job.point.execution for job in expand(ASKED, device="cpu")} == {"eager"}
    only_graph = scenario(execution=("graph",))
    assert {job.point.execution for job in expand(only_graph, device="cpu")} == {"eager"}


def test_passes_that_repeat_themselves_run_once():
    found = expand(ASKED)
    assert {job.round for job in found if job.passes.memory != "off"} == {0}
    assert {job.round for job in found if job.passes.parts} == {0, 1, 2}
    assert {job.point.execution for job in found if job.passes.parts} == {"graph"}
    assert all(job.passes.parts for job in expand(ASKED, device="cpu") if job.round == 0)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("weights_dtype", "int4"), ("cache_dtype", "float8"), ("state_dtype", "bfloat16")],
)
def test_storage_that_no_kernel_reads_is_refused_and_not_timed_as_another(name, kept):
    with pytest.raises(ConfigError, match=f"sweep.{name}: {kept} cannot be run") as refused:
        expand(scenario(**{name: kept}))
    assert f"--{name.replace('_', '-')} {kept}" in (refused.value.fix or "")
    assert expand(scenario(weights_dtype="float32", cache_dtype="float32"))  # their dtype is asked


def test_what_a_pass_is_limited_by_reaches_every_job():
    capped = scenario(passes=Passes(cap_bytes=2**30))
    assert {job.passes.cap_bytes for job in expand(capped)} == {2**30}


def test_extra_jobs_name_blocks_and_lengths():
    extra = jobs(ASKED, [3000], blocks=["mamba1"])
    assert {(job.point.block, job.point.context) for job in extra} == {("mamba1", 3000)}
    assert not {job.key for job in extra} & {job.key for job in expand(ASKED)}
