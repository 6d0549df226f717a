"""How often a classifier is right about labelled images under attack, and whether that can be trusted.

Running attacks over a set of images belongs here; the attacks stand in ``attacks.registry``, tables and
the verdict about gradient masking belong to measures.
"""
