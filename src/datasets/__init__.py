"""Catalogues, interactions, labelled images, and how they are made from raw sources.

Image folders, (user, item) pairs, k-core and leave-one-out, raw Amazon and Tradesy files, the built-in
demo set and the published retrieval sets belong here. Networks, features and scores do not; torch and
TensorFlow are never imported, because both sides of the pipeline read data through this room.
"""
