"""Images from what is shared about them: gradients, local updates or features are matched by images.

What is shared, what defends it, how two of them are compared, the published settings, the one loop that
descends, and what can be read off without descending. Images are (targets, 3, H, W), or (targets, n, 3,
H, W) where a target shares one observation of n images; the first axis always counts targets.
"""
