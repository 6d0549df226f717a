"""How often a classifier is right about labelled images under attack, and whether that can be trusted.

The attacks of robust-accuracy tables, AutoAttack among them, and running them over a set of images
belong here; tables and the verdict about gradient masking belong to reporting.
"""
