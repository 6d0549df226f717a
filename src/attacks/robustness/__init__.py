"""Accuracy of a classifier on labelled images under attack, and signs that gradients are masked.

This room runs attacks over a set of images. The attacks are in ``attacks.registry``, tables and the
verdict about gradient masking in measures.
"""
