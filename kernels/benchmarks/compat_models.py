"""Unmodified Hugging Face models on our kernels: same logits, and how much faster.

`python kernels/benchmarks/compat_models.py [MODEL ...]` builds small random-weight models, once
with the library's torch path and once under `ssmprof_kernels.compat`, prefills and decodes the same
tokens and prints the logit difference and the speed-up. Promises: exit code 1 if a model's logits
differ by more than the tolerance, or if the compatible functions were not what it called. Needs
transformers; runs on a CPU too (plain torch forms), where the speed-up means little.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ssmprof_kernels import compat

#: What the models look for; without them they take their torch path.
_PACKAGES = ("mamba_ssm", "causal_conv1d")

_COMMON = {"vocab_size": 1024, "use_cache": True, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Model:
    """Module name, config and causal-LM class of transformers, and a small configuration."""

    module: str
    config: str
    causal: str
    options: dict[str, Any]


_MAMBA2 = {"mamba_d_state": 128, "mamba_d_head": 64, "mamba_chunk_size": 256}
_HYBRID = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}

MODELS = {
    "mamba": Model(
        "mamba",
        "MambaConfig",
        "MambaForCausalLM",
        {"hidden_size": 768, "num_hidden_layers": 4, "state_size": 16},
    ),
    "mamba2": Model(
        "mamba2",
        "Mamba2Config",
        "Mamba2ForCausalLM",
        {
            "hidden_size": 768,
            "num_hidden_layers": 4,
            "state_size": 128,
            "head_dim": 64,
            "num_heads": 24,
            "n_groups": 1,
        },
    ),
    "falcon_h1": Model(
        "falcon_h1",
        "FalconH1Config",
        "FalconH1ForCausalLM",
        _HYBRID | _MAMBA2 | {"mamba_d_ssm": 1024, "mamba_n_heads": 16, "head_dim": 64},
    ),
    "bamba": Model(
        "bamba",
        "BambaConfig",
        "BambaForCausalLM",
        _HYBRID | _MAMBA2 | {"mamba_n_heads": 16, "attn_layer_indices": [1]},
    ),
    "jamba": Model(
        "jamba",
        "JambaConfig",
        "JambaForCausalLM",
        _HYBRID
        | {
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "mamba_d_state": 16,
            "mamba_dt_rank": 32,
        },
    ),
}


def _load(model: Model, device: str, dtype: torch.dtype) -> Any:
    """The causal-LM model from a freshly imported modelling module."""
    package = f"transformers.models.{model.module}"
    sys.modules.pop(f"{package}.modeling_{model.module}", None)
    modeling = importlib.import_module(f"{package}.modeling_{model.module}")
    configuration = importlib.import_module(f"{package}.configuration_{model.module}")
    options = _COMMON | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | model.options
    config = getattr(configuration, model.config)(**options)
    built = getattr(modeling, model.causal)(config)
    return built.to(device=device, dtype=dtype).eval()


@contextlib.contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Imports of `packages` fail inside, whether they are installed or not."""
    before = {m: sys.modules.pop(m) for m in [*sys.modules] if m.partition(".")[0] in packages}
    for name in packages:
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(before)


def _forget_models() -> None:
    for name in [m for m in sys.modules if m.startswith("transformers.models.")]:
        if ".modeling_" in name:
            del sys.modules[name]


@torch.inference_mode()
def _logits(model: Any, tokens: torch.Tensor, steps: int) -> torch.Tensor:
    """(B, 1 + steps, vocabulary): after the prefill and after each forced decode step."""
    prompt = tokens[:, : tokens.shape[1] - steps]
    out = model(prompt, use_cache=True)
    rows = [out.logits[:, -1]]
    # Pure state-space models call their cache by another name.
    name = "cache_params" if hasattr(out, "cache_params") else "past_key_values"
    for t in range(prompt.shape[1], tokens.shape[1]):
        out = model(tokens[:, t : t + 1], use_cache=True, **{name: getattr(out, name)})
        rows.append(out.logits[:, -1])
    return torch.stack(rows, 1).float()


@torch.inference_mode()
def _seconds(call: Callable[[], Any], device: str, repeats: int) -> float:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    call()
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    wait()
    return (time.perf_counter() - start) / repeats


def _bound_to_us(model: Any) -> set[str]:
    """Names of the compatible functions that the model's module holds."""
    module = sys.modules[type(model).__module__]
    names = set()
    for name, value in vars(module).items():
        cells = getattr(value, "__closure__", None) or ()
        for cell in cells:
            inner = cell.cell_contents
            if str(getattr(inner, "__module__", "")).startswith("ssmprof_kernels.compat"):
                names.add(name)
            for deeper in getattr(inner, "__closure__", None) or ():
                home = getattr(deeper.cell_contents, "__module__", "")
                if str(home).startswith("ssmprof_kernels.compat"):
                    names.add(name)
    return names


def compare(
    name: str, device: str, dtype: torch.dtype, length: int, steps: int, repeats: int
) -> bool:
    """Print one line for a model; False if logits differ or our functions were not bound.

    In fp32 the two must agree. In bf16 the path of the library is per cents off, so both are held
    against fp32 logits of the same (rounded) weights, and ours may not be further away than it is.
    """
    model = MODELS[name]
    torch.manual_seed(0)
    tokens = torch.randint(3, 1000, (2, length + steps), device=device)
    _forget_models()
    with hidden(*_PACKAGES):
        slow = _load(model, device, dtype)
    if _bound_to_us(slow):
        raise RuntimeError("the reference model is bound to the compatible functions")
    weights = {k: v.clone() for k, v in slow.state_dict().items()}
    theirs = _logits(slow, tokens, steps)
    slow_s = _seconds(partial(slow, tokens[:, :length], use_cache=False), device, repeats)
    truth = theirs if dtype == torch.float32 else _logits(slow.float(), tokens, steps)
    del slow
    _forget_models()
    with compat.installed(*_PACKAGES, replace=True):
        fast = _load(model, device, dtype)
    bound = _bound_to_us(fast)
    fast.load_state_dict(weights)
    ours = _logits(fast, tokens, steps)
    fast_s = _seconds(partial(fast, tokens[:, :length], use_cache=False), device, repeats)
    error, their_error = (_rms(logits - truth) / _rms(truth) for logits in (ours, theirs))
    allowed = 1e-4 if dtype == torch.float32 else 1.25 * their_error
    fine = error <= allowed and bool(bound)
    print(
        f"{name:<12}{str(dtype).removeprefix('torch.'):<10}L {length:<6} logits RMS error ours "
        f"{error:.1e}, theirs {their_error:.1e} (allowed {allowed:.1e})  prefill "
        f"{slow_s * 1e3:.1f} -> {fast_s * 1e3:.1f} ms, {slow_s / fast_s:.2f}x  "
        f"ours: {', '.join(sorted(bound))}{'' if fine else '  DIFFERS'}",
        flush=True,
    )
    return fine


def _rms(values: torch.Tensor) -> float:
    return values.double().square().mean().sqrt().item()


def main() -> int:
    """Command line; 0 if every model agrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=16, help="decode steps that are compared")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), nargs="*")
    args = parser.parse_args()
    unknown = [m for m in args.models if m not in MODELS]
    if unknown:
        parser.error(f"unknown MODEL {', '.join(unknown)}; known are {', '.join(MODELS)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = args.dtype or (["float32", "bfloat16"] if device == "cuda" else ["float32"])
    results = [
        compare(name, device, getattr(torch, dtype), args.length, args.steps, args.repeats)
        for name in args.models or MODELS
        for dtype in dtypes
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
