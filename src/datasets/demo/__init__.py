"""Built-in data set of drawn product pictures and simulated users.

``canvas`` draws shapes on a picture, ``products`` draws the eight kinds of product, ``taste`` simulates
the choices of users and ``build`` writes the data set.
"""
