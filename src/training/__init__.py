"""Training extractors: recipes as data, and the one loop that follows them.

A recipe names a loss, an adversary, a miner and terms; these are small functions and values, each kind in
a file of its own. Architectures and checkpoint formats live in ``extractors``, attacks in ``attacks``.
"""
