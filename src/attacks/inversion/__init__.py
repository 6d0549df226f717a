"""Reconstruction of images from shared observations: gradients, local updates or features.

This room holds observations, defences, costs, the published settings, the optimisation loop, and exact
solutions that need no optimisation. Images are (targets, 3, H, W), or (targets, n, 3, H, W) if a target
shares one observation of n images; the first axis always counts targets.
"""
