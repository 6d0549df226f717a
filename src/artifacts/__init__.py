"""Paths, names and file formats of all artifacts.

This room holds paths, experiment names, the file formats of the pipeline, atomic writes and the manifest
beside each artifact. It computes no results and imports no other room.
"""
