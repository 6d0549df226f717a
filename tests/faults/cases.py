"""Cases of faults, what they must not do, and the figures of a run over them."""

import argparse
import importlib
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from src.cli import Parser
from tests.faults import damage, reference, tree

FUZZED = (
    *("classify_extract", "classify_extract_attack", "evaluate_attack", "evaluate_rec"),
    *("feature_loss", "prepare_dataset", "rec_generator", "report", "summarize", "train_extractor"),
    *("audits.attention", "audits.bounds", "audits.detection", "audits.images", "audits.leaks"),
    *("audits.parameters", "audits.promotion", "audits.rankings", "audits.robustness"),
    "audits.trace",
)
"""Modules whose command lines are fuzzed."""
_WEIGHTS, _CLEAN_LISTS = "rec_model_weights", "original_"
"""Folder of weights, and beginning of the names of clean lists. Without them tables have empty cells or
lack the columns of changes, as their documentation says."""
_GENERATING = {"demo"}
"""Subcommands that work without any file, for as long as their options say."""
_VALUES = (
    *("", "0", "-1", "1", "2.5", "x", "nan", "inf", "1e400", "9" * 20, "-" + "9" * 20, "shop"),
    *("original", "VBPR", "a.txt", "missing.txt", ".", "../x", "é\u202e", "a" * 300, "0:1", "8/0"),
    *(
        "%s",
        "{}",
        f"$({damage.PAYLOAD})",
        f"`{damage.PAYLOAD}`",
        f"; {damage.PAYLOAD} #",
        "a\nb",
        "--",
        "original_top5_ep0_Pop",
    ),
)


@dataclass(frozen=True)
class Fault:
    """Damage of one artifact of the tree."""

    artifact: Path
    damage: str
    recorded: bool
    """False if no manifest is left in the tree, as in a tree of other programs."""
    seed: int = 0


@dataclass
class Figures:
    """Counts of what happened in a run over cases, and the sentences about what must not happen."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{name}: {number}" for name, number in sorted(self.counts.items()))
        return "\n".join([*self.wrong, f"{counts}, wrong: {len(self.wrong)}"])

    def count_end(self, of: str, refused: str, outcome: tree.Outcome) -> None:
        """Count a refusal under ``refused``; any end but exit code 0, or 2 and one line, is wrong."""
        self.counts[refused] += outcome.code == 2
        if outcome.code not in (0, 2) or len(outcome.errors) != (outcome.code == 2):
            self.wrong.append(f"{of} ended with {outcome}")

    def count_left(self, of: str, root: Path) -> None:
        """Count payloads that were executed in a tree; files that nothing may leave there are wrong."""
        self.wrong += [f"{of}: left {left}" for left in _left_behind(root)]
        self.counts["executed payloads"] += _n_executed(root)


def faults(whole: Path, seed: int = 0) -> Iterator[Fault]:
    """Yield every damage of every artifact of the tree, with and without manifests."""
    names = (*damage.DAMAGES, *damage.REPLACEMENTS)
    for recorded in (True, False):
        for path, name in itertools.product(tree.artifacts(whole), names):
            if recorded or not path.name.endswith("manifest.json"):
                yield Fault(path, name, recorded, seed)


def damage_all(whole: Path, cases: Iterable[Fault]) -> Figures:
    """Damage a copy of the tree for each case, run all stages on it, and compare their results.

    A stage that reads no file which differs from the undamaged tree is not run but repeated from there.
    Each stage must end with exit code 0, or with 2 and one line. With manifests, no result may differ
    from that of the whole tree.
    """
    figures, expected = Figures(), tree.results(whole)
    figures.counts["executed payloads"] = 0
    with tempfile.TemporaryDirectory(dir=whole.parent) as undamaged:
        references = {
            recorded: reference.steps(whole, Path(undamaged) / str(recorded), recorded)
            for recorded in (True, False)
        }
        for case in cases:
            _damage(whole, case, references[case.recorded], expected, figures)
    return figures


def _damage(
    whole: Path,
    case: Fault,
    steps: Iterable[reference.Step],
    expected: Mapping[str, bytes],
    figures: Figures,
) -> None:
    """Add the figures of one case of ``damage_all``."""
    with tempfile.TemporaryDirectory(dir=whole.parent) as folder:
        place = tree.copy(whole, Path(folder) / "tree")
        if not case.recorded:
            tree.remove_records(place)
        if not damage.apply(case.damage, place / case.artifact, case.seed):
            return
        figures.counts["damaged trees"] += 1
        for step in steps:
            if step.stands_for(place):
                step.repeat(place)
                figures.counts["stages that no damage reached"] += 1
                continue
            outcome = tree.call(place, step.command)
            figures.counts["stages run"] += 1
            figures.count_end(f"{case}: {step.name}", "stages that refused", outcome)
        figures.count_left(str(case), place)
        found = tree.results(place)
        changed = [
            name
            for name, content in expected.items()
            if name != str(case.artifact) and name in found and found[name] != content
        ]
        no_weights = case.artifact.parts[0] == _WEIGHTS and case.damage in damage.REPLACEMENTS
        if no_weights or (case.artifact.name.startswith(_CLEAN_LISTS) and case.damage == "missing"):
            changed = []
        if changed and case.recorded:
            figures.wrong.append(f"{case}: silently changed {', '.join(changed)}")
        figures.counts["trees without manifests with other results"] += bool(changed)


def _left_behind(root: Path) -> Iterator[str]:
    """Yield what nothing may leave: unfinished files, traces, marks of payloads, what is beside it."""
    for path in root.rglob("*"):
        # Finished parts of a stage stay in a hidden folder, from which it continues.
        unfinished = path.name.startswith(".partial-") and path.is_file()
        if unfinished or path.name in (damage.EXECUTED, "logs"):
            yield path.name
    yield from (f"../{path.name}" for path in root.parent.iterdir() if path != root)


def _n_executed(root: Path) -> int:
    """Return the number of marks that payloads have left in the tree or beside it."""
    return len(list(root.parent.rglob(damage.EXECUTED)))


def fuzz(place: Path, n_calls: int, seed: int) -> Figures:
    """Call the scripts with random options in trees without data, and judge them as ``damage_all``.

    The trees are made in the folder ``place``.
    """
    figures, rng = Figures(), np.random.default_rng(seed)
    figures.counts["executed payloads"] = 0
    for number in range(n_calls):
        module = FUZZED[number % len(FUZZED)]
        with tempfile.TemporaryDirectory(dir=place) as folder:
            root = Path(folder) / "tree"
            root.mkdir()
            (root / "a.txt").write_text("0\t1\t2\n")
            command = [module, *_random_arguments(_parser_of(module), rng)]
            outcome = tree.call(root, command)
            figures.counts["command lines"] += 1
            figures.count_end(str(command), "command lines that were refused", outcome)
            figures.count_left(str(command), root)
    return figures


class _Parsed(Exception):
    """Carries the parser of a script out of its ``main``."""


def _parser_of(module: str) -> argparse.ArgumentParser:
    """Return the parser that a script builds."""

    def stop(parser: Parser, *_: object, **__: object) -> None:
        raise _Parsed(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", stop)
        try:
            importlib.import_module(module).main()
        except _Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{module} reads no options")


def _random_arguments(parser: argparse.ArgumentParser, rng: np.random.Generator) -> list[str]:
    """Return values for the arguments that are required and for some of the others."""
    words: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = sorted(set(action.choices) - _GENERATING)
            name = str(rng.choice(names))
            return [*words, name, *_random_arguments(action.choices[name], rng)]
        is_help = isinstance(action, argparse._HelpAction)
        if is_help or (not action.required and rng.random() > 4 / len(parser._actions)):
            continue
        words += [str(rng.choice(action.option_strings))] if action.option_strings else []
        if action.nargs != 0:
            known = [str(choice) for choice in action.choices or ()]
            n_values = action.nargs if isinstance(action.nargs, int) else 1
            words += map(str, rng.choice([*_VALUES, *known * 4], n_values))
    return words


def build_whole(place: Path) -> Path:
    """Build the tree that is damaged in copies."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    tree.build(place)
    return place
