"""Tables for people and machines, put together from what the stages left.

Comparing runs, controls, significance and the summary table belong here; the measures themselves live
in ``metrics``.
"""
