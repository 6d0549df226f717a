"""VAR: effects of attacks on images, embeddings and parameters on recommendations.

The top-level scripts are commands; the folders here are rooms that they share. Imports point one way:
scripts and audits, report, measures, leaks, training, attacks, recommenders / defences, extractors,
datasets, artifacts. ``metrics`` imports no other room.
"""

__version__ = "0.1.0"
