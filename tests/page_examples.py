"""Example classes of docs/extending.md, for tests of their contracts."""

import re
import sys
from pathlib import Path
from types import ModuleType


def example_of_the_page(room: str) -> type:
    """Return the class in the page's first new file of ``src/<room>/``."""
    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    code = re.search(rf"```python\n# src/{room}/(\w+)\.py\n(.*?)```", page, re.DOTALL)
    module = ModuleType(f"example_{code[1]}")
    sys.modules[module.__name__] = module
    exec(code[2], module.__dict__)
    [found] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return found
