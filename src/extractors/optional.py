"""Optional libraries in requirements-extras.txt, and files in the Hugging Face cache."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from src.artifacts.errors import UserError


def optional_library(module: str) -> ModuleType:
    """Import ``module``; ``UserError`` says how to install a missing library."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"this needs {module.partition('.')[0]}, an optional library ({error}): "
            "pip install -r requirements-extras.txt"
        ) from error


def cached_file(
    repository: str, files: Sequence[str], what: str, option: str | None = None
) -> Path:
    """Return the first of ``files`` that the hub's cache has of ``repository``, without a download.

    Raises ``UserError`` if it has none. The message says ``what`` is missing and names ``option``, which
    takes the path of another file.
    """
    hub = optional_library("huggingface_hub")
    for file in files:
        if isinstance(path := hub.try_to_load_from_cache(repository, file), str):
            return Path(path)
    instead = f", or get them elsewhere and give their path with {option}" if option else ""
    raise UserError(f"no {what} in the hub's cache: run `hf download {repository}`{instead}")
