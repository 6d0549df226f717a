"""Training of extractors: recipes as data, and the training loop.

A recipe names a loss, an adversary, a miner and terms. These are small functions and values, each kind in
a separate file. Architectures and checkpoint formats are in ``extractors``, attacks in ``attacks``.
"""
