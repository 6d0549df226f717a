"""Import of the optional libraries in requirements-extras.txt."""

import importlib
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
