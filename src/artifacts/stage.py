"""Outputs of a stage, which are skipped if they are up to date, else published and recorded."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from src.artifacts.atomic import atomic_outputs
from src.artifacts.locks import hold, release
from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts
from src.artifacts.tables import NUMBERS, write_table


@dataclass(frozen=True)
class Stage:
    """Outputs and the manifest of how they are made; the record stands beside the first output.

    A stage reads like this::

        stage = Stage(Manifest.of("evaluate", options, inputs), [table])
        if stage.is_up_to_date(force):
            return
        stage.publish_tables(measure())
        stage.say_written()
    """

    manifest: Manifest
    outputs: Sequence[Path]
    name: Path | str = ""
    """Name of the stage in the line that skips it; by default that of its first output."""
    folder: Path | None = None
    """Folder that the outputs fill and that is replaced as a whole; None if there is none."""

    def is_up_to_date(self, force: bool) -> bool:
        """Return whether the outputs are as the manifest describes them, and print that they are.

        With ``force`` they never are. Waits while another process makes them. If they are to be made,
        this process keeps others from it until ``record``.
        """
        hold(self.outputs[0])
        if force or not self.manifest.is_current(self.outputs):
            return False
        # A kill between the record and the end leaves parts.
        shutil.rmtree(self.parts.folder, ignore_errors=True)
        release(self.outputs[0])
        print(f"{self.name or self.outputs[0]} is up to date (use --force to redo)")
        return True

    @property
    def parts(self) -> Parts:
        """Finished parts of these outputs, from which a stage that was killed continues."""
        return Parts.of(self.manifest, self.folder or self.outputs[0])

    @contextlib.contextmanager
    def publish(self) -> Iterator[tuple[Path, ...]]:
        """Yield a temporary file for each output; when the block succeeds they become the outputs."""
        with atomic_outputs(*self.outputs) as temporaries:
            yield temporaries
        self.record()

    def publish_tables(self, *tables: pd.DataFrame, numbers: str | None = NUMBERS) -> None:
        """Write one table to each output, in their order, as ``write_table`` does."""
        with self.publish() as files:
            for file, table in zip(files, tables, strict=True):
                write_table(file, table, numbers)

    def record(self) -> None:
        """Record outputs that are written completely, and discard the parts that they were made of."""
        self.manifest.write(self.outputs)
        self.parts.discard()
        release(self.outputs[0])

    def publish_folder(self, finished: Path) -> None:
        """Move the folder ``finished``, with its record, to ``folder``, and discard the parts.

        An earlier folder is replaced as a whole, with all that was measured on it.
        """
        if self.folder.exists():
            self.folder.replace(self.parts.folder / "replaced")
        finished.replace(self.folder)
        self.parts.discard()
        release(self.outputs[0])

    def say_written(self) -> None:
        print("written:", *self.outputs, sep="\n  ")
