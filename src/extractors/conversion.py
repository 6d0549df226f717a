"""Conversion of pickled checkpoints without running code from them."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.extractors.checkpoints import SAFETENSORS, state_dict_of, write_plain
from src.extractors.optional import optional_library

_ALLOWED = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
}
"""Functions that a pickle may call; they rebuild tensors and containers and do nothing else."""


class _StandIn:
    """Replacement for any other class or function, which accepts all calls and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> "_StandIn":
        return self

    def __getattr__(self, name: str) -> "_StandIn":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None: ...

    def extend(self, values: object) -> None: ...

    def add(self, value: object) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_storage = module in ("torch", "torch.storage") and name.endswith("Storage")
        is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_storage or is_type or f"{module}.{name}" in _ALLOWED:
            return super().find_class(module, name)
        return _StandIn


def _load(stream: Any, **options: Any) -> Any:
    return _Unpickler(stream, **options).load()


def convert(source: Path, out: Path) -> list[str]:
    """Write the tensors, numbers, strings and containers of these in ``source`` to ``out``.

    A file named ``.safetensors`` holds the tensors of the state dict alone, under their names. Returns
    the keys of all values that are left out, ``a.b`` for key b of a. Raises ``UserError`` if ``source``
    is no checkpoint or holds no tensor. For ``.safetensors`` it raises too if that library is missing,
    or ``source`` is a checkpoint of this project, whose other entries are needed.
    """
    if out.suffix == SAFETENSORS:
        optional_library("safetensors.torch")
    if not source.is_file():
        raise UserError(f"missing file: {source}")
    reader = SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)
    try:
        content = torch.load(source, map_location="cpu", pickle_module=reader, weights_only=False)
    except Exception as error:  # unpickling a damaged or hostile file can raise anything
        raise UserError(f"{source} cannot be read as a checkpoint: {error}") from error
    dropped: list[str] = []
    kept = _plain(content, "", dropped)
    if not isinstance(kept, Mapping) or not _has_tensor(kept):
        raise UserError(f"{source} holds no named tensors")
    if out.suffix == SAFETENSORS:
        _write_safetensors(out, source, kept, dropped)
    else:
        write_plain(out, kept)
    return dropped


def _write_safetensors(
    out: Path, source: Path, content: Mapping[str, Any], dropped: list[str]
) -> None:
    """Write the state dict in ``content``, and append the keys of all else to ``dropped``."""
    if "format" in content:
        others = ", ".join(key for key in content if key not in ("format", "state_dict"))
        raise UserError(
            f"{source} is a checkpoint of this project, whose {others} a {SAFETENSORS} file cannot hold"
        )
    tensors = state_dict_of(source, content)
    for key, value in content.items():
        is_state_dict = isinstance(value, Mapping) and tensors.keys() <= value.keys()
        if key not in tensors and not is_state_dict:
            dropped.append(key)
    try:
        # The library refuses tensors that share memory or are no plain rows.
        copies = {
            key: value.clone(memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }
        written = optional_library("safetensors.torch").save(copies)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{source} holds tensors that a {SAFETENSORS} file cannot hold: {error}"
        ) from error
    with atomic_output(out) as temporary:
        temporary.write_bytes(written)


def _plain(value: Any, key: str, dropped: list[str]) -> Any:
    """Return ``value`` with only plain values; in a list, None replaces each other value."""
    if isinstance(value, Tensor):
        return value.detach()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        inner = {
            name: _plain(entry, f"{key}.{name}".lstrip("."), dropped)
            for name, entry in value.items()
            if isinstance(name, str | int)
        }
        return {name: entry for name, entry in inner.items() if entry is not None}
    if isinstance(value, Sequence):
        return [_plain(entry, f"{key}.{place}", dropped) for place, entry in enumerate(value)]
    dropped.append(key)
    return None


def _has_tensor(value: Mapping[Any, Any]) -> bool:
    return any(
        isinstance(entry, Tensor) or (isinstance(entry, Mapping) and _has_tensor(entry))
        for entry in value.values()
    )
