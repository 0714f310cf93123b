"""Who runs an op, decided on the whole block: on this CPU, with implementations of known speed."""

from __future__ import annotations

import functools
import math
import types
from collections import Counter
from typing import Any

import make
import pytest
import torch
from msgspec import structs

from ssmprof.devices import NullDevice
from ssmprof.measure.deciding import Decider
from ssmprof.measure.timing.bench import Bench
from ssmprof.measure.timing.op_times import OpTime, OpTimes, signature
from ssmprof.measure.timing.pairs import LogRatio, alternate
from ssmprof.measure.timing.timers import WallTimer
from ssmprof.measure.timing.trial_rules import wins
from ssmprof.measure.workers import wire
from ssmprof.mixers import ops as providers
from ssmprof.planning.deciding import questions
from ssmprof.records import Trials

REAL = providers.candidates


def quiet(name: str) -> None:
    """Stages that nobody listens to."""


class VirtualClock:
    """Seconds that pass only where an implementation says so, so that speeds are exact."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def later(self, seconds: float, call):
        """The same, taking a known time."""

        def timed(*args, **kwargs):
            self.now_s += seconds
            return call(*args, **kwargs)

        return timed


def refusing(*args, **kwargs):
    raise NotImplementedError("not this shape")


@pytest.fixture
def offer(monkeypatch):
    """Offer implementations of one op, by name: the seconds of each call, None for a refusal.

    Every other op takes a millisecond.
    """
    clock = VirtualClock()
    timer = functools.partial(WallTimer, clock=clock)
    monkeypatch.setattr("ssmprof.measure.timing.op_times.WallTimer", timer)
    monkeypatch.setattr("ssmprof.measure.timing.bench.WallTimer", timer)
    in_turn = functools.partial(alternate, clock=clock)
    monkeypatch.setattr("ssmprof.measure.deciding.alternate", in_turn)
    monkeypatch.setattr("ssmprof.measure.deciding.time", types.SimpleNamespace(perf_counter=clock))

    def offered(op: str, **seconds: float | None) -> None:
        def found(name: str, device: torch.device, forced: str | None = None):
            real = REAL(name, device, forced)
            if name != op or forced is not None:
                return {other: clock.later(1e-3, call) for other, call in real.items()}
            (call,) = real.values()
            return {
                other: refusing if taken is None else clock.later(taken, call)
                for other, taken in seconds.items()
            }

        monkeypatch.setattr(providers, "candidates", found)
        return clock

    return offered


def decide(*excluded: str, name: str = "mamba2", depth: int = 1, stage=quiet, **sweep):
    bench = Bench("cpu", NullDevice("cpu", "no sensors", "cpu"), "here", lambda: 0)
    asked = make.scenario(name, **{"contexts": (64,), **sweep})
    asked = structs.replace(asked, blocks=(make.block(name, depth),))
    (question,) = questions(asked, device="cpu")
    assert isinstance(question, Trials)
    request = wire.Decide(trials=question, process=1, excluded=excluded)
    return Decider(bench).decide(request, stage)


def only(found: wire.Decided):
    (choice,) = found.choices
    return choice


def test_where_nothing_can_be_chosen_nothing_is_built():
    stages = []
    assert decide(stage=stages.append) == wire.Decided(candidates=False)
    assert stages == []


def test_a_challenger_that_makes_the_block_faster_takes_over(offer):
    offer("ssd_scan", slow=2.0e-3, quick=1.8e-3)  # of a block of 5.0e-3 s with the slow one
    choice = only(decide())
    assert (choice.op, choice.incumbent, choice.provider) == ("ssd_scan", "slow", "quick")
    (won,) = choice.trials  # two that were compared are not compared again
    assert (won.outcome, won.provider, won.incumbent, won.process) == ("won", "quick", "slow", 1)
    assert won.log_ratio == pytest.approx(math.log(4.8 / 5.0))
    assert won.pairs == 6
    assert (won.cold_s, won.incumbent_cold_s) == pytest.approx((1.8e-3, 2.0e-3))
    assert choice.share == pytest.approx(2 / 5)


def test_a_model_of_many_layers_is_decided_on_eight_with_the_shares_of_all(offer):
    clock = offer("ssd_scan", slow=2.0e-3, quick=1.8e-3)
    taken_s = []
    for depth in (8, 24):
        begun_s = clock.now_s
        choice = only(decide(depth=depth))
        taken_s.append(clock.now_s - begun_s)
        (won,) = choice.trials
        assert (won.outcome, won.provider) == ("won", "quick")
        assert (won.cold_s, won.log_ratio) == pytest.approx((8 * 1.8e-3, math.log(4.8 / 5.0)))
        assert choice.share == pytest.approx(2 / 5)
    assert taken_s[0] == pytest.approx(taken_s[1])


def test_a_change_is_followed_by_a_second_pass_over_the_others(offer):
    """Three providers of known speed: the winner of the first pass meets everybody."""
    offer("ssd_scan", slow=2.0e-3, quick=1.7e-3, middle=1.8e-3)
    choice = only(decide())
    assert choice.provider == "quick"
    assert [(trial.provider, trial.incumbent, trial.outcome) for trial in choice.trials] == [
        ("quick", "slow", "won"), ("middle", "quick", "lost"),
    ]  # fmt: skip


def test_the_first_of_the_registry_stays_where_a_challenger_gains_nothing(offer):
    offer("ssd_scan", one=2e-3, two=1.98e-3)  # 0.4 % of the block
    choice = only(decide())
    assert choice.provider == "one"
    assert [trial.outcome for trial in choice.trials] == ["lost"]


def test_who_is_far_behind_as_an_op_is_not_tried_and_who_refuses_says_why(offer):
    offer("ssd_scan", quick=1e-3, slow=1.3e-3, near=1.2e-3, no=None)
    choice = only(decide())
    outcomes = {trial.provider: trial for trial in choice.trials}
    assert choice.provider == "quick"
    assert outcomes["slow"].outcome == "slow"
    assert outcomes["slow"].cold_s == pytest.approx(1.3e-3)
    assert outcomes["slow"].log_ratio is None
    assert outcomes["near"].outcome == "lost"
    assert outcomes["no"].outcome == "refused"
    assert outcomes["no"].detail == "NotImplementedError: not this shape"


def test_a_first_of_the_registry_that_refuses_is_no_incumbent(offer):
    offer("ssd_scan", no=None, quick=1e-3)
    choice = only(decide())
    assert (choice.incumbent, choice.provider) == ("quick", "quick")


def test_what_killed_a_worker_is_not_run_again(offer):
    offer("ssd_scan", deadly=None, quick=1e-3, other=1e-3)
    choice = only(decide("ssd_scan deadly"))
    assert choice.incumbent == "quick"
    assert {trial.provider: trial.outcome for trial in choice.trials}["deadly"] == "crashed"


def test_an_op_with_too_little_of_the_time_is_not_tried(offer):
    offer("ssd_scan", one=0.01e-3, two=0.009e-3)
    choice = only(decide())
    assert [trial.outcome for trial in choice.trials] == ["small"]
    assert choice.provider == "one"


def test_an_op_that_the_scenario_forces_is_not_asked_about(offer):
    offer("ssd_scan", slow=2e-3, quick=1.8e-3)
    bench = Bench("cpu", NullDevice("cpu", "no sensors", "cpu"), "here", lambda: 0)
    asked = make.scenario("mamba2", contexts=(64,))
    (question,) = questions(asked, device="cpu")
    forced = make.block("mamba2", providers={"ssd_scan": "reference"})
    request = wire.Decide(
        trials=Trials(subject=forced, points=question.points, budget=make.QUICK), process=0
    )
    assert Decider(bench).decide(request, quiet).choices == ()


def test_every_length_is_decided_and_stages_tell_who_runs(offer):
    offer("ssd_scan", slow=2e-3, quick=1.8e-3)
    stages = []
    found = decide(contexts=(32, 128), stage=stages.append)
    assert [choice.context for choice in found.choices] == [37, 49, 64, 84, 111]
    assert {"ssd_scan slow", "ssd_scan quick", "block"} <= set(stages)
    assert found.missing == {}


@pytest.mark.parametrize(("op_s", "calls"), [(0.01, 6), (0.2, 2)])
def test_a_long_block_is_called_no_more_than_it_must(offer, op_s, calls):
    """A plain form at 75,264 tokens takes seconds: one call to warm up, one that is timed."""
    clock = offer("ssd_scan", one=op_s, far=9 * op_s)
    begun: list[float] = []

    def stage(name: str) -> None:
        begun.append(clock.now_s)

    choice = only(decide(stage=stage))
    assert [trial.outcome for trial in choice.trials] == ["slow"]
    block_s = op_s + 3e-3  # and three ops of a millisecond
    assert (clock.now_s - begun[-1]) / block_s == pytest.approx(calls)


def test_what_is_far_behind_twice_is_left_alone_at_longer_contexts(offer):
    """A plain form of a scan takes seconds there, and no length makes it the fastest."""
    offer("ssd_scan", quick=1e-3, far=9e-3, slow=7e-3)
    stages = []
    choices = decide(contexts=(32, 128), stage=stages.append).choices
    assert [stages.count(f"ssd_scan {name}") for name in ("quick", "far", "slow")] == [5, 2, 5]
    told = [{trial.provider: trial for trial in choice.trials} for choice in choices]
    assert {trial.outcome for found in told for trial in found.values()} == {"slow"}
    assert [found["far"].detail for found in told] == [
        None, None, *["8 times as slow as the best at 49 tokens"] * 3
    ]  # fmt: skip
    assert told[-1]["far"].cold_s is None


def test_lack_of_memory_at_a_length_leaves_out_the_longer_ones(offer, monkeypatch):
    from ssmprof.measure import deciding

    real = deciding.workload

    def small(model, point, chosen):
        if point.context > 60:
            raise torch.OutOfMemoryError("no room")
        return real(model, point, chosen)

    offer("ssd_scan", slow=2e-3, quick=1.8e-3)
    monkeypatch.setattr(deciding, "workload", small)
    found = decide(contexts=(32, 128))
    assert [choice.context for choice in found.choices] == [37, 49]
    assert found.missing == dict.fromkeys((64, 84, 111), "out of memory")


@pytest.mark.parametrize(
    ("mean", "error", "won"),
    [(-0.02, 0.001, True), (-0.02, 0.01, False), (-0.004, 0.0001, False), (0.02, 0.001, False)],
)
def test_a_win_is_beyond_its_error_and_half_a_per_cent(mean, error, won):
    assert wins(LogRatio(mean, error, 10)) is won


def test_blocks_that_share_an_op_and_its_shapes_share_its_times():
    bench = Bench("cpu", NullDevice("cpu", "no sensors", "cpu"), "here", lambda: 0)
    times = OpTimes(bench)
    op = providers.Op("rms_norm", torch.device("cpu"), None)
    x, weight = torch.ones(3, 8), torch.ones(8)
    stages = []
    names = {
        times.look(op, (x + one, weight), {"eps": 1e-5}, stages.append, ()) for one in range(3)
    }
    assert len(names) == 1
    assert stages == ["rms_norm torch", "block"]


class HurriedHost:
    """A window on a device where every call takes 5 us; the host's times come from a list."""

    submissions_s: list[float]
    calls: list[None]

    def __init__(self) -> None:
        self.held, self._submit_s = True, 100e-6

    def seconds(self, submit) -> float:
        self.calls.clear()
        submit()
        took_s = self.submissions_s.pop(0) if self.submissions_s else 10e-6
        self.held = took_s < 20e-6 + 2 * self._submit_s
        self._submit_s = took_s
        return 5e-6 * len(self.calls) if self.held else took_s


@pytest.mark.parametrize("late", [0, 1, 4, 8, 9])
def test_a_hurried_host_makes_no_implementation_slow(monkeypatch, late):
    """Seen: 546 us, of which the device took 36, and the faster one had no trial."""
    monkeypatch.setattr("ssmprof.measure.timing.op_times.Window", HurriedHost)
    HurriedHost.submissions_s = [10e-6] * late + [400e-6]
    HurriedHost.calls = []
    bench: Any = types.SimpleNamespace(kind="cuda", flush=None, wait=lambda: None)

    def call(x):
        HurriedHost.calls.append(None)

    op: Any = types.SimpleNamespace(op="rms_norm", found={"one": call, "two": call})
    times = OpTimes(bench)
    looked = times.look(op, (torch.ones(2),), {}, quiet, ())
    for name in ("one", "two"):
        found = times.total(Counter({looked: 1}), name)
        assert isinstance(found, OpTime)
        assert (found.hot_s, found.cold_s) == pytest.approx((5e-6, 5e-6))


def test_a_signature_tells_shapes_strides_dtypes_and_options_apart():
    x = torch.ones(4, 4)
    given = [
        ((x,), {}), ((x.t()[:2],), {}), ((x[:2],), {}), ((x.half(),), {}), ((x,), {"eps": 1.0}),
        ((x, 2), {}),
    ]  # fmt: skip
    assert len({signature("op", args, kwargs) for args, kwargs in given}) == len(given)


def test_a_state_of_several_tensors_is_known_by_their_shapes():
    """Each layer has tensors of its own."""
    one, other = ((torch.ones(2, 3), torch.ones(4)) for _ in range(2))
    assert signature("op", (), {"state": one}) == signature("op", (), {"state": other})
    assert signature("op", (one,), {}) != signature("op", ((one[0], torch.ones(5)),), {})


def test_arguments_that_an_op_overwrites_are_copied_for_its_timing(monkeypatch):
    bench = Bench("cpu", NullDevice("cpu", "no sensors", "cpu"), "here", lambda: 0)
    op = providers.Op("add_rms_norm", torch.device("cpu"), None)
    x = torch.ones(3, 8)
    kwargs = {"scale": 1.0, "eps": 1e-5, "in_place": True}
    OpTimes(bench).look(op, (x, x.clone(), torch.ones(8)), kwargs, quiet, ())
    assert x.eq(1).all()


def test_what_clearly_lost_is_not_tried_again_where_the_op_does_the_same_work(offer):
    """A step's update of the state is the same at every context."""
    offer("selective_state_update", quick=1.0e-3, near=1.1e-3, tie=1.0e-3)
    found = decide(contexts=(64, 640), phase=("decode",)).choices
    choices = [one for one in found if one.context in (found[0].context, found[-1].context)]
    first, second = choices
    assert [choice.provider for choice in choices] == ["quick", "quick"]
    assert all(trial.pairs for trial in first.trials)
    told = {trial.provider: trial for trial in second.trials}
    assert (told["near"].outcome, told["near"].pairs) == ("lost", 0)
    assert told["near"].detail == (f"as at {first.context} tokens, where the op does the same work")
    assert told["tie"].pairs > 0
