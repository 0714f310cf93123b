"""A scenario file gives a Scenario, or one error that names file, key and mend."""

from pathlib import Path

import msgspec
import pytest
from make import block

from ssmprof.errors import ConfigError
from ssmprof.models import find, zoo
from ssmprof.models.recipe import Slice, check_recipe
from ssmprof.planning import library
from ssmprof.planning.scenario import load, parse

GOOD = """
question = "Which?"
[sweep]
contexts = "512-4K*2, 5000"
[[blocks]]
name = "transformer"
layers = "(attention mlp)*2"
d_model = 64
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
mlp = { d_ff = 128 }
[[blocks]]
name = "side"
layers = "([attention mamba2] mlp)*2"
merge = "mean"
d_model = 64
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
mamba2 = { d_inner = 128, d_state = 16, headdim = 32 }
mlp = { d_ff = 128 }
"""

LINE = 'layers = "(attention mlp)*2"'


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch):
    """One preset, so that these tests are about scenarios and not about the model zoo."""
    tiny = zoo.Preset(recipe=block("tiny", vocab=1000, depth=12), source="none")
    monkeypatch.setattr(zoo, "zoo", lambda: {"tiny": tiny})
    monkeypatch.setattr(find, "zoo", lambda: {"tiny": tiny})


def test_a_good_file_decodes():
    scenario = parse(GOOD, "folder/my-question.toml")
    assert scenario.name == "my-question"
    assert scenario.sweep.contexts == (512, 1024, 2048, 4096, 5000)
    assert [layer.parts for layer in scenario.blocks[1].layers[:2]] == [
        ("attention", "mamba2"),
        ("mlp",),
    ]
    assert scenario.blocks[1].layers[0].merge == "mean"
    assert scenario.blocks[1].architecture == "hybrid"
    assert scenario.budget.rounds == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("contexts", "contxt", 'bad.toml: sweep.contxt: unknown key; did you mean "contexts"?'),
        ("[sweep]", "[swep]", 'bad.toml: swep: unknown key; did you mean "sweep"?'),
        ("d_ff", "dff", 'bad.toml: blocks[0].mlp.dff: unknown key; did you mean "d_ff"?'),
        ('"512-4K*2, 5000"', "[512, -4]", "bad.toml: sweep.contexts[1]: -4 is not a length"),
        ('"512-4K*2, 5000"', '"-512"', 'bad.toml: sweep.contexts: "-512" is not a number'),
        ('"512-4K*2, 5000"', '"8K-4K*2"', 'bad.toml: sweep.contexts: "8K-4K*2" runs backwards'),
        ('"512-4K*2, 5000"', "true", "bad.toml: sweep.contexts: expected array, got bool"),
        ('"512-4K*2, 5000"', "[]", "bad.toml: sweep.contexts: expected array of length >= 1"),
        ('contexts = "512-4K*2, 5000"', "", "bad.toml: sweep.contexts: missing"),
        (LINE, "layers = 2", "bad.toml: blocks[0].layers: expected array, got int"),
        (LINE, 'layers = "mlp*0"', "bad.toml: blocks[0].layers: 0 times"),
        (LINE, 'layers = "*3"', 'bad.toml: blocks[0].layers: "*" repeats nothing'),
        (LINE, 'layers = "(mlp"', 'bad.toml: blocks[0].layers: a "(" is not closed'),
        (LINE, 'layers = "[mlp"', 'bad.toml: blocks[0].layers: a "[" is not closed'),
        (LINE, 'layers = "mlp)"', 'bad.toml: blocks[0].layers: ")" closes nothing'),
        (LINE, 'layers = "[mlp (a]"', "bad.toml: blocks[0].layers: only names stand in brackets"),
        (LINE, 'layers = "mlp; mlp"', 'bad.toml: blocks[0].layers: cannot read "; mlp"'),
        (LINE, 'layers = "mlp*99999999"', "bad.toml: blocks[0].layers: 99,999,999 times"),
        (
            "(attention mlp)",
            "(atention mlp)",
            'bad.toml: blocks[0].layers: layer 0 uses "at',
        ),
        (LINE, "providers.x = [1]\n" + LINE, "bad.toml: blocks[0].providers"),
        (LINE, 'layers = ""', "bad.toml: blocks[0].layers: empty"),
        (LINE, 'pattern = ["mlp"]', "bad.toml: blocks[0].pattern: a form of earlier releases"),
        (
            LINE,
            LINE + "\nmlp2 = { d_ff = 3 }",
            "bad.toml: blocks[0].mlp2: unknown key; did you",
        ),
        (LINE, LINE + "\nparts.b = { d_ff = 3 }", "bad.toml: blocks[0].parts.b.kind: missing"),
        (LINE, LINE + '\nparts.b = { kind = "mpl" }', "bad.toml: blocks[0].parts.b.kind: unknown"),
        ("d_ff = 128", 'd_ff = "128"', "bad.toml: blocks[0].mlp.d_ff: expected int, got str"),
        ("d_ff = 128", "", "bad.toml: blocks[0].mlp.d_ff: missing"),
        ('merge = "mean"', 'merge = "mix"', 'bad.toml: blocks[1].merge: "mix" is neither'),
        ('"side"', '"transformer"', 'bad.toml: blocks[1].name: "transformer" is taken'),
        ("kv_heads = 2", "kv_heads = 3", "bad.toml: blocks[0].attention.kv_heads: 3 does not"),
        ("headdim = 32", "headdim = 48", "bad.toml: blocks[1].mamba2.headdim: 48 does not"),
        ("mamba2 = {", "mlp = {}\n#", "bad.toml: not valid TOML"),
        ("mamba2 = {", "#", 'bad.toml: blocks[1].layers: layer 0 uses "mamba2", which no part'),
        ("[[blocks]]", "[blocks]", "bad.toml: "),
        ("question =", "question", "bad.toml: not valid TOML"),
        (LINE, 'preset = "tinny"', 'bad.toml: blocks[0].preset: unknown preset "tinny"; did'),
        (LINE, 'factory = "os:abort"', "bad.toml: blocks[0].factory: a scenario file is"),
        ("[sweep]", "blocks = 3\n[sweep]", "bad.toml: "),
        ("[sweep]", "budget = 3\n[sweep]", "bad.toml: budget: expected object, got int"),
        ('"512-4K*2, 5000"', '"1-1000000000+1"', "bad.toml: sweep.contexts: more than 10,000 l"),
        ('"512-4K*2, 5000"', "[1073741825]", "bad.toml: sweep.contexts[0]: expected int <= "),
        ('"512-4K*2, 5000"', '"1-9K+1"\nbatch = [1,2,3,4,5,6,7,8,9,10,11,12]', "bad.toml: sweep: "),
        ("[sweep]", "[budget]\nrounds = 9223372036854775807\n[sweep]", "bad.toml: budget.rounds:"),
        ("[sweep]", "[budget]\nrounds = 9223372036854775808\n[sweep]", "bad.toml: "),
        ("[sweep]", "[budget]\npoint_s = inf\n[sweep]", "bad.toml: budget.point_s: "),
        ("[sweep]", "[budget]\npoint_s = nan\n[sweep]", "bad.toml: budget.point_s: "),
        ("d_ff = 128", f"d_ff = {'9' * 5000}", "bad.toml: not valid TOML: "),
        ("d_ff = 128", f"d_ff = {'[' * 5000}", "bad.toml: not valid TOML: nested too deeply"),
        (LINE, f"{'a.' * 5000}b = 2", "bad.toml: not valid TOML: a line with more than"),
        ('"side"', '"\\u001b[31m"', "bad.toml: blocks[1].name: "),
        ('"side"', '""', "bad.toml: blocks[1].name: "),
        ('"side"', f'"{"a" * 201}"', "bad.toml: blocks[1].name: expected str of length <= 200"),
        ("d_model = 64", "d_model = 100000000", "bad.toml: blocks[0].d_model: expected int <= "),
        ("[sweep]", '[sweep]\nphase = ["train"]', "bad.toml: sweep.phase[0]: invalid enum value"),
    ],
)
def test_every_mistake_is_one_clear_message(old: str, new: str, message: str):
    assert old in GOOD
    with pytest.raises(ConfigError) as error:
        parse(GOOD.replace(old, new, 1), "bad.toml")
    assert str(error.value).startswith(message)
    assert error.value.exit_code == 2


def test_a_preset_is_changed_key_by_key():
    text = """
[sweep]
contexts = [512]
[[blocks]]
preset = "tiny@4"
mamba2 = { d_state = 64 }
vocab = "none"
"""
    (found,) = parse(text, "x.toml").blocks
    base = block("mamba2").parts["mamba2"]
    assert (found.name, found.slice.whole, len(found.layers), found.vocab) == (
        "tiny@4",
        12,
        4,
        None,
    )
    assert found.parts["mamba2"] == msgspec.structs.replace(base, d_state=64)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('name = "wide"', 'name: "wide" hides that this is a slice; fix: name = "wide@4"'),
        ('name = "wide@44"', 'name: "wide@44" hides that this is a slice'),
        ('layers = "mamba2*6"', "layers: a slice has those of its model, the first 4"),
        ('slice = { of = "tiny", layers = 1, whole = 2 }', "slice: unknown key"),
    ],
)
def test_a_slice_stays_one_and_its_name_says_so(written: str, message: str):
    text = f'[sweep]\ncontexts = [512]\n[[blocks]]\npreset = "tiny@4"\n{written}\n'
    with pytest.raises(ConfigError) as error:
        parse(text, "x.toml")
    assert f"x.toml: blocks[0].{message}".partition("; fix")[0] in str(error.value)
    assert message.partition("; fix: ")[2] in (error.value.fix or "")


def test_two_slices_of_a_model_may_have_names_of_their_own():
    text = """
[sweep]
contexts = [512]
[[blocks]]
preset = "tiny@4"
[[blocks]]
preset = "tiny@4"
name = "tiny@4 wide"
mamba2 = { d_state = 64 }
"""
    assert [block.name for block in parse(text, "x.toml").blocks] == ["tiny@4", "tiny@4 wide"]


def test_a_slice_is_shorter_than_its_model():
    (found,) = parse('[sweep]\ncontexts = [1]\n[[blocks]]\npreset = "tiny@4"\n', "x").blocks
    for layers, whole in ((0, 4), (4, 4), (5, 4)):
        wrong = msgspec.structs.replace(found, slice=Slice(of="tiny", layers=layers, whole=whole))
        assert check_recipe(wrong) == ("slice", f"{layers} of {whole} layers is no slice")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml: cannot be read"):
        load(tmp_path / "binary.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_an_existing_path_wins_over_a_name_and_a_wrong_name_gets_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "shipped", lambda: {"smoke": Path("/somewhere/smoke.toml")})
    assert library.find("smoke") == Path("/somewhere/smoke.toml")
    monkeypatch.chdir(tmp_path)
    Path("smoke").write_text(GOOD)
    assert library.find("smoke") == Path("smoke")
    with pytest.raises(ConfigError, match='did you mean "smoke"'):
        library.find("smokke")
    with pytest.raises(ConfigError, match="no such file"):
        library.find("folder/x.toml")


def test_a_layer_that_no_part_is_called_is_found():
    one = block("mamba2")
    assert check_recipe(msgspec.structs.replace(one, parts={})) is not None
    assert check_recipe(block("parallel")) is None


def test_a_sub_layer_that_takes_no_adapter_says_so():
    one = block("mamba2")
    rank = msgspec.structs.replace(one.parts["mamba2"], adapter_rank=4)
    found = check_recipe(msgspec.structs.replace(one, parts={"mamba2": rank}))
    assert found == ("mamba2.adapter_rank", "Mamba-2 takes no adapter")
