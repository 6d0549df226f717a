"""Tables made from runs: evaluation, summary, exposure, image quality.

Comparing runs, controls, significance and the summary table belong here; the formulas themselves live in
``metrics``, and the report shows what these tables hold.
"""
