"""Real data beside the repository; tests that read them are skipped where they are absent."""

from pathlib import Path

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
"""Folder of catalogues, weights and labelled images."""
