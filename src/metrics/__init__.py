"""Measures: pure functions of arrays that return one value for each user or image.

No files, no devices, no printing: means, intervals and paired tests are computed from the values, so
every measure is written once.
"""
