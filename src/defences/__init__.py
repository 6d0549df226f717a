"""Defences in front of an extractor: images in, images out.

Start with ``defence.py``, the contract; ``registry.py`` is the table of all defences.
"""
