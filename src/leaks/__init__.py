"""Leakage of images through shared gradients and features: reconstruction, and SemSim, which judges it.

This room holds observations, costs, the published settings, the optimisation loop, exact solutions that
need no optimisation, and the training of SemSim. Images are (targets, 3, H, W), or (targets, n, 3, H, W)
if a target shares one observation of n images; the first axis always counts targets.
"""
