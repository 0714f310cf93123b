"""`config.json` of a known family -> BlockSpec: the sizes of a published model, without its code.

FAMILIES maps `model_type` to a reader of its keys (those of transformers 4.5x and 5.x, and the file
that state-spaces/mamba ships). What a family has beyond our sub-layers (multipliers, scaled rotary
bases, norms inside the mixer) does not change the work noticeably and is left out; experts do, so a
mixture of experts is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from ssmprof import limits
from ssmprof.errors import ConfigError, nearest
from ssmprof.planning.config_keys import Keys, open_config
from ssmprof.planning.models import from_letters
from ssmprof.spec import AttentionSpec, BlockSpec, MlpSpec, StateSpec, check_block

MLP_KINDS = {"silu": "swiglu", "swish": "swiglu", "relu2": "relu2", "gelu": "gelu"}


def read(path: Path | str) -> BlockSpec:
    """The block of a `config.json`, or of the folder that holds one.

    Raises ConfigError where the file cannot be read, its family is unknown or a key is missing,
    ill-typed or beyond the limits.
    """
    keys = open_config(Path(path))
    file = keys.file
    family = keys.text("model_type", "state-spaces" if "ssm_cfg" in keys.values else "")
    if family not in FAMILIES:
        raise ConfigError(
            f'{file}: model_type: no reader for "{family[:60]}"{nearest(family, FAMILIES)}',
            fix="write the sizes into a scenario, or name hf:FOLDER on the command line",
        )
    for experts in ("num_local_experts", "num_experts", "n_routed_experts"):
        if keys.values.get(experts) not in (None, 0) and keys.whole(experts) > 1:
            raise keys.wrong(experts, "a mixture of experts cannot be built here")
    name = file.parent.name if file.name == "config.json" and file.parent.name else file.stem
    return _within_limits(FAMILIES[family](keys, name), file)


def _within_limits(block: BlockSpec, file: Path) -> BlockSpec:
    """The block, held against the bounds of its fields and against itself."""
    try:
        sound = msgspec.convert(msgspec.to_builtins(block), BlockSpec)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"{file}: as a block: {error}".replace("`", "")) from None
    problem = check_block(sound)
    if problem:
        raise ConfigError(f"{file}: as a block: {problem[0]}: {problem[1]}")
    return sound


def _attention(keys: Keys, *, bias: bool = False, rope: bool = True) -> AttentionSpec:
    heads = keys.whole("num_attention_heads")
    theta = None
    if rope:
        nested = keys.below("rope_parameters")
        theta = keys.number("rope_theta") or nested.number("rope_theta") or 10_000.0
    windowed = keys.flag("use_sliding_window", keys.values.get("model_type") == "mistral")
    width = "head_dim" if keys.values.get("head_dim") is not None else "attention_head_dim"
    hidden = keys.whole("hidden_size")
    if hidden < heads:
        raise keys.wrong("num_attention_heads", f"{heads} heads do not fit {hidden} features")
    return AttentionSpec(
        heads=heads,
        kv_heads=keys.whole("num_key_value_heads", heads),
        head_dim=keys.whole(width, hidden // heads),
        qkv_bias=bias or keys.flag("attention_bias", False),
        rope_theta=theta,
        window=keys.whole("sliding_window") if windowed and _has_window(keys) else None,
    )


def _has_window(keys: Keys) -> bool:
    return keys.values.get("sliding_window") is not None


def _mlp(keys: Keys, size: str = "intermediate_size") -> MlpSpec:
    act = keys.text("hidden_act", keys.text("mlp_hidden_act", "silu"))
    if act not in MLP_KINDS:
        raise keys.wrong("hidden_act", f'unknown "{act[:60]}"{nearest(act, MLP_KINDS)}')
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
    if keys.values.get("layer_types") is not None:
        keys.layers("layer_types", {"full_attention": "*", "sliding_attention": "*"})
    depth = keys.whole("num_hidden_layers")
    return _block(keys, name, ("attention", "mlp"), depth, attention=attention, mlp=_mlp(keys))


def _mamba1_model(keys: Keys, name: str) -> BlockSpec:
    width = keys.whole("hidden_size")
    state = StateSpec(
        d_inner=keys.whole("intermediate_size", keys.whole("expand", 2) * width),
        d_state=keys.whole("state_size", 16),
        d_conv=keys.whole("conv_kernel", 4),
        dt_rank=keys.chosen("time_step_rank", -(-width // 16)),
    )
    return _block(keys, name, ("mamba1",), keys.whole("num_hidden_layers"), state=state)


def _mamba2_model(keys: Keys, name: str) -> BlockSpec:
    state = _mamba2(keys, "num_heads", "head_dim", "state_size", "n_groups", "conv_kernel")
    return _block(keys, name, ("mamba2",), keys.whole("num_hidden_layers"), state=state)


def _state_spaces(keys: Keys, name: str) -> BlockSpec:
    """The file of state-spaces/mamba: d_model, n_layer, ssm_cfg, padded vocabulary."""
    width, depth = keys.whole("d_model"), keys.whole("n_layer")
    inner = keys.below("ssm_cfg")
    mixer = inner.text("layer", "Mamba1").lower()
    if mixer not in ("mamba1", "mamba2") or keys.values.get("attn_layer_idx"):
        raise inner.wrong("layer", f'cannot build "{mixer[:60]}" with this file')
    multiple = keys.whole("pad_vocab_size_multiple", 8)
    state = StateSpec(
        d_inner=inner.whole("expand", 2) * width,
        d_state=inner.whole("d_state", 16 if mixer == "mamba1" else 128),
        d_conv=inner.whole("d_conv", 4),
        headdim=inner.whole("headdim", 64),
        ngroups=inner.whole("ngroups", 1),
        dt_rank=-(-width // 16) if mixer == "mamba1" else None,
    )
    vocab = -(-keys.whole("vocab_size") // multiple) * multiple
    return BlockSpec(
        name=name, pattern=(mixer,), depth=depth, d_model=width, state=state, vocab=vocab,
        tie_embeddings=keys.flag("tie_embeddings", True),
    )  # fmt: skip


def _mamba_keys(keys: Keys) -> StateSpec:
    """The `mamba_*` keys that Falcon-H1, Bamba and Granite share."""
    heads = keys.whole("mamba_n_heads")
    inner = keys.whole("mamba_d_ssm", keys.whole("mamba_expand", 2) * keys.whole("hidden_size"))
    keys.values["mamba_d_head"] = keys.chosen("mamba_d_head", inner // heads)
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
    depth = _depth(keys)
    attends = keys.items("attn_layer_indices")
    for layer in attends:
        if not isinstance(layer, int) or isinstance(layer, bool) or not 0 <= layer < depth:
            raise keys.wrong("attn_layer_indices", f"{repr(layer)[:60]} is none of {depth} layers")
    pattern = "".join("*-" if layer in attends else "M-" for layer in range(depth))
    return _block(
        keys, name, from_letters(pattern), 1,
        attention=_attention(keys), state=_mamba_keys(keys), mlp=_mlp(keys),
    )  # fmt: skip


def _granite_hybrid(keys: Keys, name: str) -> BlockSpec:
    pattern = keys.layers("layer_types", {"attention": "*-", "mamba": "M-"})
    rope = keys.text("position_embedding_type", "nope") == "rope"
    return _block(
        keys, name, pattern, 1, attention=_attention(keys, rope=rope),
        state=_mamba_keys(keys), mlp=_mlp(keys, "shared_intermediate_size"),
    )  # fmt: skip


def _nemotron_h(keys: Keys, name: str) -> BlockSpec:
    state = _mamba2(
        keys, "mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel"
    )
    keys.values.setdefault("mlp_hidden_act", "relu2")
    return _block(
        keys, name, _nemotron_layers(keys), 1,
        attention=_attention(keys, rope=False), state=state, mlp=_mlp(keys),
    )  # fmt: skip


def _nemotron_layers(keys: Keys) -> tuple[str, ...]:
    """`layers_block_type` of transformers 5, or the letters that earlier files hold."""
    if keys.values.get("layers_block_type") is not None:
        letters = {"mamba": "M", "attention": "*", "mlp": "-"}
        return keys.layers("layers_block_type", letters)
    letters = keys.text("hybrid_override_pattern", "")
    keys.count_layers("hybrid_override_pattern", len(letters))
    try:
        return from_letters(letters)
    except ConfigError as error:
        raise keys.wrong("hybrid_override_pattern", error.what) from None


def _depth(keys: Keys) -> int:
    """Layers of a model whose pattern is written out, one entry for each."""
    depth = keys.whole("num_hidden_layers")
    if depth > limits.LAYERS:
        raise keys.wrong("num_hidden_layers", f"{depth} layers; at most {limits.LAYERS:,}")
    return depth


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
