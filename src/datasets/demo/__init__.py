"""The built-in catalogue: product pictures that are drawn, and users whose taste is simulated.

``canvas`` puts shapes on a picture, ``products`` draws the eight kinds of product, ``taste`` lets users
choose among them and ``build`` writes the data set.
"""
