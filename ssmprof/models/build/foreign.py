"""Models that are not ours: a user's `module:function`, or a Hugging Face config, random weights.

`module:function` and `/path.py:function` call the function without arguments; it returns an
`nn.Module` that takes token ids (B, L) or, where the spec gives a shape, numbers, or a pair of a
module and `example(batch, context)` that makes its input (a tensor, a tuple or dict of arguments).
`hf:FOLDER/config.json` builds `AutoModelForCausalLM` from the config. Building runs the code named.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.mixers.cache import tensor_bytes
from ssmprof.models.build.inputs import Example, example_of
from ssmprof.models.code import file_named, started_in
from ssmprof.records import Point
from ssmprof.scalars import Logits
from ssmprof.spec import ForeignSpec


@dataclass
class ForeignModel:
    """A module on its device, and how to make its input; `hugging_face` knows its cache."""

    spec: ForeignSpec
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    example: Example
    hugging_face: bool
    logits: Logits = "none"

    @property
    def weights_bytes(self) -> int:
        """Bytes of parameters and buffers."""
        return sum(map(tensor_bytes, (*self.module.parameters(), *self.module.buffers())))

    def providers(self) -> dict[str, str]:
        """Which code answers: the library, and the attention it was told to use."""
        names = {"model": type(self.module).__module__.split(".")[0]}
        config = getattr(self.module, "config", None)
        if attention := getattr(config, "_attn_implementation", None):
            names["attention"] = f"transformers-{attention}"
        return names


def build(
    spec: ForeignSpec, device: torch.device, dtype: torch.dtype, seed: int, logits: Logits
) -> ForeignModel:
    """Make the model of `spec.factory` with random weights on `device`, for inference.

    Raises ConfigError where it cannot be found, built or fed.
    """
    kind, _, rest = spec.factory.partition(":")
    torch.manual_seed(seed)
    example: Example | None = None
    with device:
        if kind == "hf":
            module = _hugging_face(spec, Path(rest).expanduser(), dtype)
        else:
            made = _function(spec)()
            module, example = made if isinstance(made, tuple) else (made, None)
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"{spec.factory}: returned {type(module).__name__}, expected a torch.nn.Module",
            fix="return a module, or (module, example) with example(batch, context)",
        )
    module = module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return ForeignModel(
        spec=spec,
        module=module,
        device=device,
        dtype=dtype,
        example=example or example_of(spec, module, device, dtype, seed),
        hugging_face=hasattr(module, "config") and "transformers" in sys.modules,
        logits=logits,
    )


def _function(spec: ForeignSpec) -> Callable[[], Any]:
    where, _, name = spec.factory.rpartition(":")
    if started_in() not in sys.path:
        sys.path.insert(0, started_in())  # torch and ours are imported: it can stand for neither
    try:
        module = (
            _from_file(file_named(where))
            if where.endswith(".py")
            else importlib.import_module(where)
        )
    except (ImportError, OSError, ValueError) as error:
        raise ConfigError(
            f"{spec.factory}: cannot import {where or 'nothing'}",
            cause=str(error),
            fix="name module:function or /path/file.py:function",
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{spec.factory}: {where} has no function {name}")
    return found


def _from_file(path: Path) -> ModuleType:
    location = importlib.util.spec_from_file_location(path.stem, path)
    if location is None or location.loader is None or not path.is_file():
        raise ImportError(f"no such file: {path}")
    module = importlib.util.module_from_spec(location)
    sys.modules[path.stem] = module
    location.loader.exec_module(module)
    return module


def _hugging_face(spec: ForeignSpec, path: Path, dtype: torch.dtype) -> nn.Module:
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f"{spec.factory}: transformers is not installed", fix="pip install transformers"
        ) from error
    try:
        # Code beside a config.json is never run: without a word transformers would ask, and wait.
        config = transformers.AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
        return transformers.AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(f"{spec.factory}: cannot be built", cause=str(error)[:300]) from error


@dataclass
class Call:
    """One call of a foreign model, what it keeps between tokens and how many logits it makes."""

    run: Callable[[], Tensor]
    cache: object | None
    logits_bytes: int
    held: list[object]


def prepare(model: ForeignModel, point: Point) -> Call:
    """The call of a point. Decode needs a cache: of Hugging Face models, filled by one prefill.

    Raises NotImplementedError where the model has no cache that can be used.
    """
    if point.phase == "prefill" and point.past:
        raise NotImplementedError(
            f"{model.spec.name}: a model that is not ours reads prompts whole"
        )
    inputs = _on(model.device, model.example(point.batch, point.context))
    options = _options(model, point.logits)
    if point.phase == "prefill":

        @torch.inference_mode()
        def read() -> Tensor:
            return _first_tensor(_called(model.module, inputs, options))

        return _weighed(model, point, read, None, [inputs])
    if not model.hugging_face:
        raise NotImplementedError(f"{model.spec.name}: a plain module has no cache to decode with")
    with torch.inference_mode():
        cache_name, cache = _cache_of(_called(model.module, inputs, options | {"use_cache": True}))
    token = _on(model.device, model.example(point.batch, 1))
    filled = _snapshot(cache)

    @torch.inference_mode()
    def step() -> Tensor:
        out = _called(model.module, token, options | {"use_cache": True, cache_name: cache})
        _restore(filled)  # the next replay starts at the same position
        return _first_tensor(out)

    return _weighed(model, point, step, cache, [token, cache])


def _weighed(
    model: ForeignModel, point: Point, run: Callable[[], Tensor], cache: object, held: list[object]
) -> Call:
    vocab = getattr(getattr(model.module, "config", None), "vocab_size", 0)
    tokens = 1 if point.phase == "decode" else point.context
    rows = {"none": 0, "last": 1, "all": tokens}[point.logits]
    size = torch.finfo(model.dtype).bits // 8
    return Call(run, cache, point.batch * rows * vocab * size, held)


def _options(model: ForeignModel, logits: Logits) -> dict[str, Any]:
    """Keyword arguments that keep the logits asked for (transformers 4.45 and later)."""
    if not model.hugging_face or "logits_to_keep" not in signature(model.module.forward).parameters:
        return {}
    return {"logits_to_keep": 0 if logits == "all" else 1}


def _called(module: nn.Module, inputs: Any, options: Mapping[str, Any]) -> Any:
    if isinstance(inputs, dict):
        return module(**inputs, **options)
    return module(*inputs, **options) if isinstance(inputs, tuple) else module(inputs, **options)


def _on(device: torch.device, value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _on(device, part) for name, part in value.items()}
    return tuple(_on(device, part) for part in value) if isinstance(value, (list, tuple)) else value


def _first_tensor(out: Any) -> Tensor:
    if isinstance(out, Tensor):
        return out
    parts = out.values() if isinstance(out, Mapping) else out
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise NotImplementedError("the model returned no tensor")


def _cache_of(out: Any) -> tuple[str, Any]:
    for name in ("past_key_values", "cache_params"):
        cache = getattr(out, name, None)
        if cache is not None:
            return name, cache
    raise NotImplementedError("the model returned no cache to decode with")


def _snapshot(cache: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The attributes of a cache and its layers, and what they refer to now.

    A growing cache binds new tensors and counters; binding the old ones again takes a step back
    without a copy. States that are overwritten in place stay as they are.
    """
    parts = [cache, *getattr(cache, "layers", ())]
    return [
        (vars(part), {k: list(v) if isinstance(v, list) else v for k, v in vars(part).items()})
        for part in parts
    ]


def _restore(snapshot: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for attributes, values in snapshot:
        for name, value in values.items():
            if isinstance(value, list):
                attributes[name][:] = value
            else:
                attributes[name] = value


def cache_bytes(cache: object) -> dict[str, int]:
    """Bytes of a Hugging Face cache by owner, by the names of attributes that hold tensors."""
    found = {"kv": 0, "conv_state": 0, "ssm_state": 0}
    seen: set[int] = set()

    def walk(value: object, owner: str) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            found[owner] += tensor_bytes(value)
        elif isinstance(value, Mapping):
            for part in value.values():
                walk(part, owner)
        elif isinstance(value, (list, tuple)):
            for part in value:
                walk(part, owner)
        elif hasattr(value, "__dict__"):
            for name, part in vars(value).items():
                walk(part, _owner(name, owner))

    walk(cache, "kv")
    return found


def _owner(attribute: str, default: str) -> str:
    if "conv" in attribute:
        return "conv_state"
    return "ssm_state" if "ssm" in attribute or "recurrent" in attribute else default
