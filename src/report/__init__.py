"""Report: one HTML file with the results of all stages on a data set.

``study`` finds the results, ``estimates`` gives numbers their intervals, ``sections`` makes tables and
plots, and ``page`` renders them. The report measures nothing itself.
"""
