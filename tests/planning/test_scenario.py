"""A scenario file gives a Scenario, or one error that names file, key and mend."""

import sys
import types
from pathlib import Path

import pytest
from make import block

from ssmprof.errors import ConfigError, nearest
from ssmprof.planning import library
from ssmprof.planning.scenario import load, parse
from ssmprof.models.recipe import check_recipe

GOOD = """
question = "Which?"
[sweep]
contexts = "512-4K*2, 5000"
[[blocks]]
name = "transformer"
pattern = ["attention", "mlp"]
depth = 2
d_model = 64
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
mlp = { d_ff = 128 }
[[blocks]]
name = "side"
pattern = [["attention", "mamba2"], "mlp"]
depth = 2
d_model = 64
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
state = { d_inner = 128, d_state = 16, headdim = 32 }
mlp = { d_ff = 128 }
"""


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch):
    """One preset, so that these tests are about scenarios and not about the model zoo."""

    def preset(name: str):
        if name != "tiny":
            raise ConfigError(f'no preset is named "{name}"{nearest(name, ["tiny"])}')
        return block("tiny", vocab=1000, depth=12)

    module = types.ModuleType("ssmprof.planning.models")
    module.preset = preset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ssmprof.planning.models", module)
    import ssmprof.planning

    monkeypatch.setattr(ssmprof.planning, "models", module, raising=False)


def test_a_good_file_decodes():
    scenario = parse(GOOD, "folder/my-question.toml")
    assert scenario.name == "my-question"
    assert scenario.sweep.contexts == (512, 1024, 2048, 4096, 5000)
    assert scenario.blocks[1].pattern == (("attention", "mamba2"), "mlp")
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
        ("depth = 2", 'depth = "2"', "bad.toml: blocks[0].depth: expected int, got str"),
        ("depth = 2", "depth = 0", "bad.toml: blocks[0].depth: expected int >= 1"),
        ('"attention", "mlp"]', '"atention", "mlp"]', "bad.toml: blocks[0].pattern: unknown sub"),
        ("pattern = [", "pattern = []\nproviders.x = [", "bad.toml: blocks[0].providers"),
        ('["attention", "mlp"]', "[]", "bad.toml: blocks[0].pattern: empty"),
        ('"side"', '"transformer"', 'bad.toml: blocks[1].name: "transformer" is taken'),
        ("kv_heads = 2", "kv_heads = 3", "bad.toml: blocks[0].attention.kv_heads: 3 does not"),
        ("headdim = 32", "headdim = 48", "bad.toml: blocks[1].state.headdim: 48 does not"),
        ("state = {", "mlp = {}\n#", "bad.toml: not valid TOML"),
        ("state = {", "#", "bad.toml: blocks[1].state: missing; the pattern holds"),
        ("[[blocks]]", "[blocks]", "bad.toml: "),
        ("question =", "question", "bad.toml: not valid TOML"),
        ("depth = 2", 'preset = "tinny"', 'bad.toml: blocks[0].preset: no preset is named "tinny"'),
        ("depth = 2", 'factory = "os:abort"', "bad.toml: blocks[0].factory: a scenario file is"),
        ("[sweep]", "blocks = 3\n[sweep]", "bad.toml: "),
        ("[sweep]", "budget = 3\n[sweep]", "bad.toml: budget: expected object, got int"),
        ('"512-4K*2, 5000"', '"1-1000000000+1"', "bad.toml: sweep.contexts: more than 10,000 l"),
        ('"512-4K*2, 5000"', "[1073741825]", "bad.toml: sweep.contexts[0]: expected int <= "),
        ('"512-4K*2, 5000"', '"1-9K+1"\nbatch = [1,2,3,4,5,6,7,8,9,10,11,12]', "bad.toml: sweep: "),
        ("[sweep]", "[budget]\nrounds = 9223372036854775807\n[sweep]", "bad.toml: budget.rounds:"),
        ("[sweep]", "[budget]\nrounds = 9223372036854775808\n[sweep]", "bad.toml: "),
        ("[sweep]", "[budget]\npoint_s = inf\n[sweep]", "bad.toml: budget.point_s: "),
        ("[sweep]", "[budget]\npoint_s = nan\n[sweep]", "bad.toml: budget.point_s: "),
        ("depth = 2", f"depth = {'9' * 5000}", "bad.toml: not valid TOML: "),
        ("depth = 2", f"depth = {'[' * 5000}", "bad.toml: not valid TOML: nested too deeply"),
        ("depth = 2", f"{'a.' * 5000}b = 2", "bad.toml: not valid TOML: a line with more than"),
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
preset = "tiny"
depth = 4
state = { d_state = 64 }
vocab = "none"
"""
    (found,) = parse(text, "x.toml").blocks
    base = block("mamba2")
    assert (found.name, found.preset, found.depth, found.vocab) == ("tiny", "tiny", 4, None)
    assert found.state.d_state == 64
    assert found.state.d_inner == base.state.d_inner


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


def test_a_block_without_its_sizes_is_found():
    assert check_block(block("mamba2", state=None)) is not None
    assert check_block(block("parallel")) is None
