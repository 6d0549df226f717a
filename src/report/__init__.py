"""The report: one HTML file that shows what the stages left of a data set.

``study`` finds it, ``estimates`` gives numbers their intervals, ``sections`` turns it into tables and
plots, and ``page`` renders them. Nothing is measured here that a stage has not left.
"""
