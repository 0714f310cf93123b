"""`config.json` of a known family -> BlockSpec: the sizes of a published model, without its code.

FAMILIES maps `model_type` to a reader of its keys (those of transformers 4.5x and 5.x, and the file
that state-spaces/mamba ships). What a family has beyond our sub-layers (multipliers, scaled rotary
bases, norms inside the mixer) does not change the work noticeably and is left out; experts do, so a
mixture of experts is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ssmprof.errors import ConfigError, nearest
from ssmprof.planning.models import from_letters
from ssmprof.spec import AttentionSpec, BlockSpec, MlpSpec, StateSpec

MLP_KINDS = {"silu": "swiglu", "swish": "swiglu", "relu2": "relu2", "gelu": "gelu"}


class Keys:
    """The keys of one file; a missing or ill-typed one is a ConfigError that names it."""

    def __init__(self, values: dict[str, Any], file: Path) -> None:
        self.values = values
        self.file = file

    def whole(self, name: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{self.file}: {name}: expected a positive integer, got {value!r}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        return bool(self.values.get(name, default))

    def text(self, name: str, default: str) -> str:
        """A string."""
        return str(self.values.get(name, default))

    def names(self, name: str) -> list[Any]:
        """A list."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise ConfigError(f"{self.file}: {name}: expected a list, got {value!r}")
        return cast("list[Any]", value)


def read(path: Path | str) -> BlockSpec:
    """The block of a `config.json`, or of the folder that holds one.

    Raises ConfigError where the file cannot be read, its family is unknown or a key is missing.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    try:
        values = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected an object of keys")
    keys = Keys(cast("dict[str, Any]", values), file)
    family = keys.text("model_type", "state-spaces" if "ssm_cfg" in values else "")
    if family not in FAMILIES:
        raise ConfigError(
            f'{file}: model_type: no reader for "{family}"{nearest(family, FAMILIES)}',
            fix="write the sizes into a scenario, or name hf:FOLDER on the command line",
        )
    for experts in ("num_local_experts", "num_experts", "n_routed_experts"):
        if (keys.values.get(experts) or 0) > 1:
            raise ConfigError(f"{file}: {experts}: a mixture of experts cannot be built here")
    name = file.parent.name if file.name == "config.json" and file.parent.name else file.stem
    return FAMILIES[family](keys, name)


def _attention(keys: Keys, *, bias: bool = False, rope: bool = True) -> AttentionSpec:
    heads = keys.whole("num_attention_heads")
    theta = None
    if rope:
        nested = cast("dict[str, Any]", keys.values.get("rope_parameters") or {})
        theta = float(keys.values.get("rope_theta") or nested.get("rope_theta") or 10_000.0)
    windowed = keys.flag("use_sliding_window", keys.values.get("model_type") == "mistral")
    head_dim = keys.values.get("head_dim") or keys.values.get("attention_head_dim")
    return AttentionSpec(
        heads=heads,
        kv_heads=keys.whole("num_key_value_heads", heads),
        head_dim=int(head_dim or keys.whole("hidden_size") // heads),
        qkv_bias=bias or keys.flag("attention_bias", False),
        rope_theta=theta,
        window=keys.values.get("sliding_window") if windowed else None,
    )


def _mlp(keys: Keys, size: str = "intermediate_size") -> MlpSpec:
    act = keys.text("hidden_act", keys.text("mlp_hidden_act", "silu"))
    if act not in MLP_KINDS:
        raise ConfigError(f'{keys.file}: hidden_act: unknown "{act}"{nearest(act, MLP_KINDS)}')
    return MlpSpec(d_ff=keys.whole(size), kind=cast("Any", MLP_KINDS[act]))


def _mamba2(keys: Keys, heads: str, width: str, states: str, groups: str, conv: str) -> StateSpec:
    headdim = keys.whole(width)
    return StateSpec(
        d_inner=keys.whole(heads) * headdim,
        d_state=keys.whole(states),
        headdim=headdim,
        ngroups=keys.whole(groups, 1),
        d_conv=keys.whole(conv, 4),
        gated_norm=keys.flag("mamba_rms_norm", True),
    )


def _block(keys: Keys, name: str, pattern: tuple[Any, ...], depth: int, **parts: Any) -> BlockSpec:
    tied = keys.flag("tie_word_embeddings", keys.values.get("model_type") in ("mamba", "mamba2"))
    width = keys.whole("hidden_size")
    vocab = keys.whole("vocab_size")
    return BlockSpec(
        name=name, pattern=pattern, depth=depth, d_model=width, vocab=vocab,
        tie_embeddings=tied, **parts,
    )  # fmt: skip


def _transformer(keys: Keys, name: str) -> BlockSpec:
    attention = _attention(keys, bias=keys.values["model_type"] == "qwen2")
    depth = keys.whole("num_hidden_layers")
    return _block(keys, name, ("attention", "mlp"), depth, attention=attention, mlp=_mlp(keys))


def _mamba1_model(keys: Keys, name: str) -> BlockSpec:
    width = keys.whole("hidden_size")
    rank = keys.values.get("time_step_rank", "auto")
    state = StateSpec(
        d_inner=keys.whole("intermediate_size", keys.whole("expand", 2) * width),
        d_state=keys.whole("state_size", 16),
        d_conv=keys.whole("conv_kernel", 4),
        dt_rank=math.ceil(width / 16) if rank == "auto" else int(rank),
    )
    return _block(keys, name, ("mamba1",), keys.whole("num_hidden_layers"), state=state)


def _mamba2_model(keys: Keys, name: str) -> BlockSpec:
    state = _mamba2(keys, "num_heads", "head_dim", "state_size", "n_groups", "conv_kernel")
    return _block(keys, name, ("mamba2",), keys.whole("num_hidden_layers"), state=state)


def _state_spaces(keys: Keys, name: str) -> BlockSpec:
    """The file of state-spaces/mamba: d_model, n_layer, ssm_cfg, padded vocabulary."""
    width, depth = keys.whole("d_model"), keys.whole("n_layer")
    inner = Keys(cast("dict[str, Any]", keys.values.get("ssm_cfg") or {}), keys.file)
    mixer = inner.text("layer", "Mamba1").lower()
    if mixer not in ("mamba1", "mamba2") or keys.values.get("attn_layer_idx"):
        raise ConfigError(f'{keys.file}: ssm_cfg.layer: cannot build "{mixer}" with this file')
    multiple = keys.whole("pad_vocab_size_multiple", 8)
    state = StateSpec(
        d_inner=inner.whole("expand", 2) * width,
        d_state=inner.whole("d_state", 16 if mixer == "mamba1" else 128),
        d_conv=inner.whole("d_conv", 4),
        headdim=inner.whole("headdim", 64),
        ngroups=inner.whole("ngroups", 1),
        dt_rank=math.ceil(width / 16) if mixer == "mamba1" else None,
    )
    vocab = -(-keys.whole("vocab_size") // multiple) * multiple
    return BlockSpec(
        name=name, pattern=(mixer,), depth=depth, d_model=width, state=state, vocab=vocab,
        tie_embeddings=keys.flag("tie_embeddings", True),
    )  # fmt: skip


def _mamba_keys(keys: Keys) -> StateSpec:
    """The `mamba_*` keys that Falcon-H1, Bamba and Granite share."""
    inner = keys.values.get("mamba_d_ssm") or (
        keys.whole("mamba_expand", 2) * keys.whole("hidden_size")
    )
    width = keys.values.get("mamba_d_head", "auto")
    heads = keys.whole("mamba_n_heads")
    keys.values["mamba_d_head"] = inner // heads if width == "auto" else width
    return _mamba2(
        keys, "mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv"
    )


def _falcon_h1(keys: Keys, name: str) -> BlockSpec:
    keys.values.setdefault("mamba_rms_norm", False)
    return _block(
        keys, name, (("attention", "mamba2"), "mlp"), keys.whole("num_hidden_layers"),
        attention=_attention(keys), state=_mamba_keys(keys), mlp=_mlp(keys),
    )  # fmt: skip


def _bamba(keys: Keys, name: str) -> BlockSpec:
    depth = keys.whole("num_hidden_layers")
    attends = set(keys.names("attn_layer_indices"))
    pattern = "".join("*-" if layer in attends else "M-" for layer in range(depth))
    return _block(
        keys, name, from_letters(pattern), 1,
        attention=_attention(keys), state=_mamba_keys(keys), mlp=_mlp(keys),
    )  # fmt: skip


def _granite_hybrid(keys: Keys, name: str) -> BlockSpec:
    letters = {"attention": "*-", "mamba": "M-"}
    kinds = keys.names("layer_types")
    pattern = "".join(letters.get(str(kind), "?") for kind in kinds)
    rope = keys.text("position_embedding_type", "nope") == "rope"
    return _block(
        keys, name, from_letters(pattern), 1, attention=_attention(keys, rope=rope),
        state=_mamba_keys(keys), mlp=_mlp(keys, "shared_intermediate_size"),
    )  # fmt: skip


def _nemotron_h(keys: Keys, name: str) -> BlockSpec:
    state = _mamba2(
        keys, "mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel"
    )
    keys.values.setdefault("mlp_hidden_act", "relu2")
    return _block(
        keys, name, from_letters(keys.text("hybrid_override_pattern", "")), 1,
        attention=_attention(keys, rope=False), state=state, mlp=_mlp(keys),
    )  # fmt: skip


# `model_type` -> reader; "state-spaces" is the file without one that state-spaces/mamba ships.
FAMILIES: dict[str, Callable[[Keys, str], BlockSpec]] = {
    "llama": _transformer,
    "mistral": _transformer,
    "qwen2": _transformer,
    "mamba": _mamba1_model,
    "falcon_mamba": _mamba1_model,
    "mamba2": _mamba2_model,
    "state-spaces": _state_spaces,
    "falcon_h1": _falcon_h1,
    "bamba": _bamba,
    "granitemoehybrid": _granite_hybrid,
    "nemotron_h": _nemotron_h,
}
