"""Who runs which op: two processes asked through workers, merged, kept, obeyed and exported."""

from __future__ import annotations

import json
import math

import fakes
import make
import pytest
from msgspec import structs

from ssmprof.cli.progress import decided_text
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.decisions import alike, merged, spans
from ssmprof.models.notation import write_layers
from ssmprof.models.short_form import Shortened
from ssmprof.planning.deciding import lengths, questions
from ssmprof.records import OpChoice, Span, decision_rows, providers_at, spans_text
from ssmprof.scalars import digest
from ssmprof.spec import ForeignSpec
from ssmprof.store import folder

TRIAL = {"context": 704, "process": 0, "provider": "a", "incumbent": "b", "outcome": "lost"}
SCENARIO = make.scenario(contexts=(512, 16_384), phase=("prefill", "decode"))


def decided(faults=None, path=None, asked=SCENARIO):
    with fakes.client(faults, path) as client:
        return client.decide(questions(asked, device="cpu"))


def test_five_lengths_stand_for_five_equal_parts_of_the_range_and_are_no_powers_of_two():
    assert lengths((512, 3000, 131_072)) == (896, 2688, 8256, 24_832, 75_264)
    assert lengths((64, 100)) == (67, 73, 80, 87, 96)
    assert lengths((4096,)) == (4160,)
    for found in (lengths((low, high)) for low in (1, 100, 512) for high in (600, 4096, 10**6)):
        assert all(n % 64 == 0 and n & (n - 1) for n in found if n >= 128)


def test_a_question_per_block_phase_and_batch_steps_before_prompts():
    asked = structs.replace(SCENARIO, sweep=structs.replace(SCENARIO.sweep, batch=(1, 4)))
    found = questions(asked)
    assert [one.label() for one in found] == [
        "attention decode b1", "attention decode b4", "attention prefill b1",
        "attention prefill b4", "mamba2 decode b1", "mamba2 decode b4", "mamba2 prefill b1",
        "mamba2 prefill b4",
    ]  # fmt: skip
    assert {point.execution for one in found for point in one.points} == {"graph"}
    assert {point.execution for one in questions(asked, device="cpu") for point in one.points} == {
        "eager"
    }
    assert [point.context for point in found[0].points] == list(lengths((512, 16_384)))


def test_models_that_are_not_ours_are_not_asked_about_and_known_answers_not_asked_again():
    foreign = ForeignSpec(name="theirs", factory="module:function")
    asked = structs.replace(SCENARIO, blocks=(*SCENARIO.blocks, foreign))
    assert {one.subject.name for one in questions(asked)} == {"attention", "mamba2"}
    known = decided().decisions
    assert questions(asked, device="cpu", known=known) == ()
    assert len(questions(asked, device="cpu", known=known[:1])) == 3


def test_both_processes_agree_and_a_switch_lies_at_the_geometric_mean(tmp_path):
    says = {f"{context} {process}": "fast" for context in (704, 1472) for process in (0, 1)}
    found = decided({"decisions": json.dumps(says)}, tmp_path).decisions
    assert len(found) == 4
    first = found[0]
    assert first.contexts == (704, 1472, 2880, 5824, 11_584)
    assert first.agreed
    edge = math.sqrt(1472 * 2880)
    assert first.spans == (
        Span(provider="fast", up_to=edge), Span(provider="steady", above=edge)
    )  # fmt: skip
    assert [first.provider(context) for context in (1, 704, 2058, 2059, 10**7)] == [
        "fast", "fast", "fast", "steady", "steady"
    ]  # fmt: skip
    assert spans_text(first.spans) == "fast up to 2,058, steady above"
    assert [(trial.context, trial.process) for trial in first.trials[:2]] == [(704, 0), (704, 1)]
    assert first.environment == make.ENVIRONMENT.fingerprint
    text = decided_text(found)
    assert "attention prefill op fast up to 2,058, steady above" in text


def test_where_two_processes_disagree_the_incumbent_stays_and_the_decision_says_so(tmp_path):
    says = {"704 0": "fast", "704 1": "fast", "1472 0": "fast"}
    found = decided({"decisions": json.dumps(says)}, tmp_path).decisions
    assert found[0].providers == ("fast", "steady", "steady", "steady", "steady")
    assert not found[0].agreed
    assert found[0].disagreed == (1472,)
    assert "two processes disagree on attention op, mamba2 op" in decided_text(found)


def test_a_block_with_given_providers_takes_the_word_on_its_other_ops(tmp_path):
    plain = structs.replace(SCENARIO.blocks[0], name="plain", providers={"op": "reference"})
    other = structs.replace(SCENARIO.blocks[1], name="other", providers={"never": "reference"})
    asked = structs.replace(SCENARIO, blocks=(plain, other, *SCENARIO.blocks))
    groups = alike(questions(asked, device="cpu"))
    assert [[one.label() for one in group] for group in groups.values()] == [
        [f"{first} {phase} b1", f"{second} {phase} b1"]
        for first, second in (("attention", "plain"), ("mamba2", "other"))
        for phase in ("decode", "prefill")
    ]
    found = decided(path=tmp_path, asked=asked).decisions
    assert [one.block for one in found if one.conditions.phase == "decode"] == [
        "attention", "mamba2", "other"
    ]  # fmt: skip
    alone = structs.replace(SCENARIO, blocks=(plain, structs.replace(plain, name="again")))
    assert [len(group) for group in alike(questions(alone, device="cpu")).values()] == [2, 2]


def test_a_length_that_one_process_lacks_is_left_to_its_neighbours():
    question = questions(SCENARIO, device="cpu")[0]

    def word(*contexts):
        return wire.Decided(
            choices=tuple(
                OpChoice(context=c, op="op", incumbent="a", provider="b", share=0.5)
                for c in contexts
            )
        )

    (found,) = merged(question, [word(704, 1472), word(704)], make.ENVIRONMENT)
    assert found.contexts == (704,)
    assert found.provider(10**6) == "b"
    assert merged(question, [word(704), word(1472)], make.ENVIRONMENT) == []


def test_spans_of_one_length_and_of_many_switches():
    assert spans((5,), ("a",)) == (Span(provider="a"),)
    found = spans((1, 4, 16, 64), ("a", "b", "b", "a"))
    assert [(one.provider, one.above, one.up_to) for one in found] == [
        ("a", None, 2.0), ("b", 2.0, 32.0), ("a", 32.0, None)
    ]  # fmt: skip


def test_a_provider_that_kills_its_worker_is_left_out(tmp_path):
    found = decided({"deadly": "segfault"}, tmp_path)
    assert len(found.decisions) == 4
    assert found.problems == ()
    assert left_out(found) == {"op deadly"}


def left_out(found):
    return {trial.detail for one in found.decisions for trial in one.trials}


@pytest.mark.parametrize("where", ["decide attention", "deadly", "fork"])
def test_a_kill_from_outside_costs_no_decision_and_no_provider(where, tmp_path):
    fault = "refuse 1" if where == "fork" else "kill 1"
    found = decided({where: fault}, tmp_path)
    assert found.problems == ()
    assert len(found.decisions) == 4
    assert left_out(found) == {None}


@pytest.mark.parametrize("fault", ["kill", "rubbish", "exit"])
def test_a_block_that_cannot_be_decided_is_told_and_the_others_are(fault, tmp_path):
    found = decided({"decide attention": fault}, tmp_path)
    assert {one.block for one in found.decisions} == {"mamba2"}
    assert len(found.problems) == 2
    assert found.problems[0].startswith("attention decode b1: ")


def test_a_device_without_a_choice_is_asked_once(tmp_path):
    found = decided({"plain": "yes"}, tmp_path)
    assert found.decisions == ()
    assert found.problems == ()


def test_blocks_that_differ_in_their_name_alone_are_decided_once_and_alike(tmp_path):
    twins = (make.block("mamba2"), make.block("other"))
    asked = structs.replace(make.scenario(contexts=(64,)), blocks=twins)
    faults = {"decisions": json.dumps({"64 0": "fast", "64 1": "fast"}), "decide other": "kill"}
    found = decided(faults, tmp_path, asked)
    assert found.problems == ()
    assert [(one.block, one.block_digest) for one in found.decisions] == [
        (twin.name, digest(twin)) for twin in twins
    ]
    assert {one.providers for one in found.decisions} == {("fast",)}


def test_every_process_of_the_run_obeys_and_so_does_a_resumed_one(tmp_path):
    says = {f"704 {process}": "fast" for process in (0, 1)}
    with folder.create(tmp_path / "run", SCENARIO) as opened:
        opened.add_environment(make.ENVIRONMENT)
        opened.add_decisions(decided({"decisions": json.dumps(says)}, tmp_path).decisions)
    with folder.resume(tmp_path / "run") as opened:
        visit = make.visit(contexts=(512, 4096))
        with fakes.client(decisions=opened.decisions) as client:
            outcomes = list(client([visit]))
        assert [one.providers["op"] for one in outcomes] == ["fast", "fast", "steady", "steady"]
    assert folder.load(tmp_path / "run").decisions == opened.decisions


def test_a_model_is_decided_on_fewer_of_its_layers_and_obeys_whole(tmp_path):
    whole = make.block("attention", 32)
    asked = structs.replace(make.scenario(contexts=(512, 16_384)), blocks=(whole,))
    (question,) = questions(asked, device="cpu")
    assert write_layers(question.subject.layers) == "(attention mlp)*4"
    assert {point.block_digest for point in question.points} == {digest(whole)}
    says = {f"704 {process}": "fast" for process in (0, 1)}
    with folder.create(tmp_path / "run", asked) as opened:
        opened.add_environment(make.ENVIRONMENT)
        opened.add_decisions(decided({"decisions": json.dumps(says)}, tmp_path, asked).decisions)
    with folder.resume(tmp_path / "run") as opened:
        (found,) = opened.decisions
        assert questions(asked, device="cpu", known=opened.decisions) == ()
        points = [
            make.point("attention", context, block_digest=digest(whole)) for context in (512, 4096)
        ]
        device = make.ENVIRONMENT.device
        obeyed = [providers_at(opened.decisions, point, device)["op"] for point in points]
    assert (found.block_digest, found.shortened) == (digest(whole), Shortened(layers=4, whole=32))
    assert obeyed == ["fast", "steady"]
    (row, *_) = decision_rows([found])
    assert (row["layers"], row["of_layers"]) == (4, 32)


def test_decisions_speak_of_their_block_device_and_conditions_under_every_execution():
    found = decided().decisions
    device = make.ENVIRONMENT.device
    point = make.point("mamba2", 700, execution="graph")
    assert providers_at(found, point, device) == {"op": "steady"}
    for other in (
        structs.replace(point, dtype="bfloat16"),
        structs.replace(point, logits="last"),
        make.point("mamba1", 700),
    ):
        assert providers_at(found, other, device) == {}
    assert providers_at(found, point, "another") == {}
    # A batch that nothing was decided for takes the word of the nearest one.
    assert providers_at(found, structs.replace(point, batch=2), device) == {"op": "steady"}


def test_a_table_has_a_row_per_trial_with_the_decision():
    found = decided().decisions
    rows = decision_rows(found)
    assert len(rows) == sum(len(one.trials) for one in found) == 40
    assert rows[0] == {
        "block": "attention", "phase": "decode", "batch": 1, "dtype": "float32", "op": "op",
        "incumbent": "steady", "decided": "steady", "agreed": True, "layers": None,
        "of_layers": None, "context": 704, "process": 0,
        "share": 0.25, "challenger": "fast", "against": "steady", "outcome": "lost",
        "ratio": math.exp(0.01), "ratio_error": 0.001, "pairs": 6, "op_hot_s": None,
        "op_cold_s": None, "against_hot_s": None, "against_cold_s": None, "detail": None,
    }  # fmt: skip
    assert len(decision_rows([structs.replace(found[0], trials=())])) == 1


def test_decisions_survive_loading_writing_and_merging(tmp_path):
    run = make.run(make.measurement(), decisions=decided().decisions)
    folder.write(tmp_path / "run", run)
    loaded = folder.load(tmp_path / "run")
    assert loaded.decisions == run.decisions
    assert folder.merge([loaded, loaded]).decisions == run.decisions


def test_a_damaged_file_of_decisions_is_an_error_that_names_it(tmp_path):
    from ssmprof.errors import StoreError

    folder.write(tmp_path / "run", make.run(make.measurement()))
    (tmp_path / "run" / "decisions.json").write_text('[{"block": 1}]')
    with pytest.raises(StoreError, match=r"decisions\.json"):
        folder.load(tmp_path / "run")


@pytest.mark.parametrize(
    "wrong",
    [
        {"providers": ("a",)},
        {"shares": (0.5,)},
        {"shares": (0.5, 1.5)},
        {"spans": ()},
        {"contexts": ()},
        {"contexts": (0, 1)},
        {"spans": ({"provider": "a", "up_to": 1e300},)},
        {"trials": ({**TRIAL, "log_ratio": 1e4},)},
        {"trials": ({**TRIAL, "error": -1.0},)},
        {"trials": ({**TRIAL, "pairs": -1},)},
    ],
    ids=str,
)
def test_a_decision_that_cannot_be_is_refused_where_it_is_read(wrong, tmp_path):
    from ssmprof.errors import StoreError

    folder.write(tmp_path / "run", make.run(make.measurement(), decisions=(make.decision(),)))
    file = tmp_path / "run" / "decisions.json"
    (good,) = json.loads(file.read_text())
    file.write_text(json.dumps([good | wrong]))
    with pytest.raises(StoreError, match=r"decisions\.json"):
        folder.load(tmp_path / "run")


def test_nesting_and_size_beyond_reason_are_one_error(tmp_path):
    from ssmprof import limits
    from ssmprof.errors import StoreError

    folder.write(tmp_path / "run", make.run(make.measurement()))
    file = tmp_path / "run" / "decisions.json"
    for text in ("[" * 100_000, " " * (limits.RUN_FILE_BYTES + 1)):
        file.write_text(text)
        with pytest.raises(StoreError, match=r"decisions\.json"):
            folder.load(tmp_path / "run")


def test_where_no_span_holds_the_incumbent_runs():
    found = make.decision(spans=(Span(provider="fast", above=600.0, up_to=800.0),))
    assert [found.provider(at) for at in (600, 601, 800, 801)] == [
        "steady", "fast", "fast", "steady"
    ]  # fmt: skip
