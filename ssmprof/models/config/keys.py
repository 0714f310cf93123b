"""Keys of a `config.json`, typed by the struct of its family, or one error that names the key.

null is read like a key that is not there: files are written with every key of their class. A key
that no family knows is ignored only where its name says that it changes no shape.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from ssmprof import limits
from ssmprof.scalars import Size

Count = Annotated[int, Meta(ge=1, le=limits.LAYERS)]
Whole = Annotated[int, Meta(ge=0, le=limits.WIDTH)]
Real = Annotated[float, Meta(ge=-limits.ROPE_BASE, le=limits.ROPE_BASE)]
Positive = Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)]
Text = Annotated[str, Meta(max_length=limits.NAME_CHARACTERS)]

Keys = TypeVar("Keys", bound=Struct)

# Names of keys that say how a model is trained, stored, sampled from or named, not what it is.
_HARMLESS = re.compile(
    r"^(_.*|architectures|auto_map|model_type|torch_dtype|dtype|transformers_version|use_cache"
    r"|.*_token_id|.*_token_ids|.*token_index|.*dropout.*|.*dropped.*|.*_pdrop|initializer.*|.*_init|.*init_.*"
    r"|.*_init_.*|time_step_(min|max|floor|limit|scale|init.*)|output_.*|return_dict|gradient.*"
    r"|pretraining_tp|max_position_embeddings|max_window_layers|chunk_size|.*chunk_size"
    r"|residual_in_fp32|rescale.*|use_mamba_kernels|use_mambapy|use_triton.*|num_logits_to_keep"
    r"|.*aux_loss.*|router_z.*|quantization_config|task_specific_params|id2label|label2id"
    r"|problem_type|finetuning_task|.*_penalty|.*sampl.*|temperature|top_k|top_p|min_length"
    r"|max_length|max_seq_len.*|seq_length|name_or_path|sliding_window_size_hint|attn_implementation"
    r"|fuse_.*|use_l2warp|attn_mode|is_decoder|is_encoder_decoder|add_cross_attention"
    r"|cross_attention_hidden_size|tokenizer_class|prefix|bad_words_ids|begin_suppress_tokens"
    r"|suppress_tokens|chunk_size_feed_forward|pruned_heads|exponential_decay.*|num_return_sequences"
    r"|num_beams.*|forced_.*|length_penalty|diversity_penalty|early_stopping|do_sample|.*_id)$"
)
_SHAPES = re.compile(
    r"(size|dim|heads?|layers?|rank|experts?|window|bias|conv|state|norm|pattern|group|share|tie"
    r"|expand|kernel|intermediate|mamba|ssm|attn|attention|rope|rotary|mlp|ffn|act|gate|sink|moe"
    r"|mem|meta|block|multiplier|cap|vocab|d_model|inner|linear|lora|latent|depth)"
)


class KeyProblem(ValueError):
    """A key whose value cannot be what the model has; `key` is its path."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


def shown(value: Any) -> str:
    """A value as it stands in a message: short, on one line."""
    return repr(value)[:60]


def decode(values: dict[str, Any], struct: type[Keys], inside: str = "") -> Keys:
    """The keys of an object as a struct of their types.

    `inside` is the path of the object in the file, with a dot behind. Raises KeyProblem for a key
    that is ill-typed, out of bounds, missing, or not known although its name speaks of a shape.
    """
    given = {key: value for key, value in values.items() if value is not None}
    known = {field.encode_name for field in msgspec.structs.fields(struct)}
    for key, value in given.items():
        if key in known or _HARMLESS.match(key) or not _SHAPES.search(key.lower()):
            continue
        if value in (False, 0, "", [], {}):
            continue
        raise KeyProblem(
            f"{inside}{key}", f"{shown(value)} is not understood, and may change the model's shape"
        )
    try:
        return msgspec.convert({key: given[key] for key in known & given.keys()}, struct)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _problem(str(error), given, inside) from None


def _problem(text: str, given: dict[str, Any], inside: str) -> KeyProblem:
    """msgspec's message as a key and a sentence."""
    message, _, path = text.partition(" - at `$")
    where = path.rstrip("`").lstrip(".")
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        return KeyProblem(f"{inside}{where + '.' if where else ''}{missing[1]}", "missing")
    value = given.get(re.split(r"[.\[]", where)[0]) if where else None
    message = message.replace("`", "").lower()
    return KeyProblem(f"{inside}{where or 'the file'}", f"{message}, got {shown(value)}")


def heads_of(size: int, heads: int, key: str = "num_attention_heads") -> int:
    """Width of a head where a file does not say it. Raises KeyProblem where none is left."""
    if size < heads:
        raise KeyProblem(key, f"{heads} heads do not fit {size} features")
    return size // heads


def listed(layers: tuple[str, ...] | None, count: int, key: str) -> tuple[str, ...]:
    """A list of one name per layer, held against the number of layers."""
    found = layers or ()
    if not found:
        raise KeyProblem(key, "empty: a model without layers")
    if len(found) != count:
        raise KeyProblem(key, f"{len(found)} layers, but num_hidden_layers is {count}")
    return found


def chosen(value: int | str | None, default: Size, key: str) -> int:
    """A positive integer, where nothing and "auto" leave the choice to a rule."""
    if value is None or value == "auto":
        return default
    if isinstance(value, str) or value < 1:
        raise KeyProblem(key, f'expected a positive integer or "auto", got {shown(value)}')
    return value
