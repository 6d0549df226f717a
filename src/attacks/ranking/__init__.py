"""Attacks on rankings by embeddings: their aims, objectives and scores.

All embeddings here are L2-normalised; distances are Euclidean, in [0, 2].
"""
