"""VAR: what attacks on images, embeddings and parameters do to recommendations.

The top-level scripts are the verbs; the folders here are the rooms they share. Imports point one way:
scripts and audits, report, measures, leaks, training, attacks, recommenders / defences, extractors,
datasets, artifacts. ``metrics`` stands alone.
"""

__version__ = "0.1.0"
