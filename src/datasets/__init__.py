"""Catalogues, interactions and labelled images, and their preparation from raw sources.

This room holds image folders, (user, item) pairs, k-core and leave-one-out, raw Amazon and Tradesy files,
the built-in demo set and the published retrieval sets, but no networks, features or scores. It imports
neither torch nor TensorFlow, because both sides of the pipeline read data through it.
"""
