"""Attacks on the ranking that embeddings give: what is aimed at, its objective, and how it is scored.

All embeddings here are L2-normalised; distances are Euclidean, in [0, 2].
"""
