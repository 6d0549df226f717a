"""Attacks on images: on classes, attention and rankings. ``attack.py`` says what an attack is.

The engines (CleverHans called well, our own PGD, C&W and DDN), the options and names of attacks, freezing
a network around an attack, and running one over a class of a catalogue into 8-bit files belong here.
Training, recommenders and measures do not.
"""
