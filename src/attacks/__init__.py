"""Attacks on images: each is one function of pixels, labels and a budget.

The engines (CleverHans called well, our own C&W and DDN), freezing a model around an attack, and the
8-bit storage of what an attack found belong here. File names and experiment bookkeeping do not.
"""
