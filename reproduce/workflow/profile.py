"""Options of the default profile for a command line: ``python -m reproduce.workflow.profile``.

Snakemake announces every profile that it reads in a line, which means nothing to those who named none.
"""

from pathlib import Path

import yaml

DEFAULT_PROFILE = Path(__file__).parents[1] / "profiles" / "default" / "config.yaml"


def default_options() -> list[str]:
    """Return the options of the default profile as words, and the one by which Snakemake reads none."""
    words = ["--workflow-profile", "none"]
    for name, value in yaml.safe_load(DEFAULT_PROFILE.read_text(encoding="utf-8")).items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(str(of) for of in values if of is not True)]
    return words


if __name__ == "__main__":
    print(*default_options(), sep="\n")
