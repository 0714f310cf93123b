"""The cast: every kind of model to be asked about, found in a recipe by its parts or preset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.part import Part, kind
from ssmprof.models import zoo
from ssmprof.models.recipe import Recipe

SUB_LAYERS = "sub-layers.md"
_NAMED = 3  # presets that a row names


@dataclass(frozen=True)
class System:
    """One row: its name, the sub-layer or presets it is asked for by, and who is one.

    `own` systems do not say by their name which one is meant: they are called as the contender is.
    """

    name: str
    fits: Callable[[Recipe], bool]
    part: str | None = None
    how: str = ""
    own: bool = False

    @property
    def presets(self) -> list[str]:
        """Presets that are one, the smallest first."""
        found = [name for name in zoo.names() if self.fits(zoo.preset(name))]
        return sorted(found, key=_size)

    def asked(self) -> str:
        """How it is asked for: a sub-layer and how it is set, or presets."""
        words = [f"[`{self.part}`]({SUB_LAYERS}#{self.part})"] if self.part else []
        words += [self.how] if self.how else []
        shown = [f"`{name}`" for name in self.presets[:_NAMED]]
        more = len(self.presets) - len(shown)
        if shown:
            words.append("preset " + ", ".join(shown) + (f" and {more} more" if more else ""))
        return "; ".join(words)


@cache
def _size(name: str) -> int:
    from ssmprof.models.cost import parameters

    return parameters(zoo.preset(name))


def piece(recipe: Recipe) -> str | None:
    """`4 layers of NAME` where a recipe is the piece of a preset; None where it is whole."""
    if recipe.preset is None or recipe.preset not in zoo.zoo():
        return None
    if recipe.layer_count == zoo.preset(recipe.preset).layer_count:
        return None
    return f"{recipe.layer_count} layers of `{recipe.preset}`"


def mixing(recipe: Recipe) -> set[str]:
    """Kinds of sub-layers in which tokens meet."""
    return {kind(part) for part in _parts(recipe) if part.mixes}


def has(recipe: Recipe, name: str) -> bool:
    """Whether a recipe uses a kind of sub-layer at all."""
    return any(kind(part) == name for part in _parts(recipe))


def plain_attention(recipe: Recipe) -> bool:
    """Attention over all keys, and nothing else that mixes tokens."""
    return mixing(recipe) == {"attention"} and not any(
        one.window or one.differential for one in attentions(recipe)
    )


def attentions(recipe: Recipe) -> list[Attention]:
    """Every attention of a recipe."""
    return [part for part in _parts(recipe) if isinstance(part, Attention)]


def _parts(recipe: Recipe) -> Iterable[Part]:
    return [recipe.parts[name] for name in dict.fromkeys(name for name, _ in recipe.used())]


def _dense(recipe: Recipe) -> bool:
    return not has(recipe, "moe")


def _beside(recipe: Recipe) -> bool:
    return any(sum(recipe.parts[name].mixes for name in layer.parts) > 1 for layer in recipe.layers)


def _only(name: str) -> Callable[[Recipe], bool]:
    return lambda recipe: mixing(recipe) == {name} and _dense(recipe)


def _with(name: str) -> Callable[[Recipe], bool]:
    return lambda recipe: has(recipe, name)


def _heads(grouped: bool) -> Callable[[Recipe], bool]:
    return lambda recipe: (
        plain_attention(recipe)
        and _dense(recipe)
        and grouped == any(one.kv_heads < one.heads for one in attentions(recipe))
    )


def _published(*begins: str) -> Callable[[Recipe], bool]:
    return lambda recipe: recipe.preset is not None and recipe.preset.startswith(begins)


def _mixed(beside: bool) -> Callable[[Recipe], bool]:
    return lambda recipe: (
        recipe.preset is None
        and mixing(recipe) == {"attention", "mamba2"}
        and _dense(recipe)
        and _beside(recipe) == beside
    )


def _mixer(name: str, part: str, how: str = "") -> System:
    return System(name, _only(part), part, how)


CAST = (
    System("grouped-query transformer (GQA)", _heads(True), "attention", "`kv_heads` < `heads`"),
    System("multi-head transformer (MHA)", _heads(False), "attention", "`kv_heads` = `heads`"),
    System(
        "sliding-window transformer",
        lambda one: mixing(one) == {"attention"} and any(a.window for a in attentions(one)),
        "attention",
        "`window`",
    ),
    System(
        "differential attention",
        lambda one: any(a.differential for a in attentions(one)),
        "attention",
        "`differential`",
    ),
    _mixer("MLA", "mla"),
    System(
        "MoE",
        lambda one: has(one, "moe") and (not one.preset or mixing(one) == {"attention"}),
        "moe",
        own=True,  # of any mixer
    ),
    _mixer("Mamba-1", "mamba1"),
    _mixer("Mamba-2", "mamba2"),
    _mixer("Mamba-3", "mamba3"),
    _mixer("RWKV-7", "rwkv7"),
    _mixer("GLA", "gla"),
    _mixer("RetNet", "retnet"),
    _mixer("lightning attention", "lightning"),
    _mixer("delta net", "delta"),
    _mixer("gated delta net", "gated_delta"),
    _mixer("KDA", "kda"),
    System("RG-LRU", _with("rglru"), "rglru"),
    _mixer("mLSTM", "mlstm"),
    System("short convolution", _with("short_conv"), "short_conv"),
    _mixer("LSTM", "lstm"),
    _mixer("GRU", "gru"),
    System("gated memory unit", _with("gmu"), "gmu"),
    System("Mamba-2-Hybrid (Waleffe)", _published("waleffe-mamba2-hybrid-")),
    System("Nemotron-H", _published("nemotron-h-", "nemotron-nano-")),
    System("Jamba", _published("jamba-")),
    System("Falcon-H1", _published("falcon-h1-")),
    System("Zamba2", _published("zamba2-")),
    System("Hymba", _published("hymba-")),
    System("Bamba", _published("bamba-")),
    System("Granite-4-H", _published("granite-4.0-h-")),
    System("Qwen3-Next", _published("qwen3-next-")),
    System("Kimi-Linear", _published("kimi-linear-")),
    System("LFM2", _published("lfm2-")),
    System("RecurrentGemma", _published("recurrentgemma-")),
    System("MiniMax-01", _published("minimax-text-01")),
    System("Mamba-2 and attention in turn", _mixed(False), how="`layers`", own=True),
    System("Mamba-2 beside attention", _mixed(True), how="`layers`", own=True),
)
