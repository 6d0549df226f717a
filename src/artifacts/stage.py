"""Outputs of a stage, which are skipped if they are up to date, else published and recorded."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.artifacts.atomic import atomic_outputs
from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts


@dataclass(frozen=True)
class Stage:
    """Outputs and the manifest of how they are made; the record stands beside the first output.

    A stage reads like this::

        stage = Stage(Manifest.of("evaluate", options, inputs), [table])
        if stage.is_up_to_date(force):
            return
        with stage.publish() as (file,):
            measure().to_csv(file)
        stage.say_written()
    """

    manifest: Manifest
    outputs: Sequence[Path]
    name: Path | str = ""
    """Name of the stage in the line that skips it; by default that of its first output."""

    def is_up_to_date(self, force: bool) -> bool:
        """Return, and print, whether the outputs are as the manifest describes them.

        With ``force`` they never are.
        """
        if force or not self.manifest.is_current(self.outputs):
            return False
        print(f"{self.name or self.outputs[0]} is up to date (use --force to redo)")
        return True

    @property
    def parts(self) -> Parts:
        """Finished parts of these outputs, from which a stage that was killed continues."""
        return Parts.of(self.manifest, self.outputs[0])

    @contextlib.contextmanager
    def publish(self) -> Iterator[tuple[Path, ...]]:
        """Yield a temporary file for each output; when the block succeeds they become the outputs."""
        with atomic_outputs(*self.outputs) as temporaries:
            yield temporaries
        self.record()

    def record(self) -> None:
        """Record outputs that are written completely, and discard the parts that they were made of."""
        self.manifest.write(self.outputs)
        self.parts.discard()

    def say_written(self) -> None:
        print("written:", *self.outputs, sep="\n  ")
