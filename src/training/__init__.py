"""Training extractors: one loop, composed of a loss and an adversary.

Recipes (plain, Free-AT) and the loop that runs them belong here. Architectures and checkpoint formats
live in ``extractors``, attacks in ``attacks``.
"""
