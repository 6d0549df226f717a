"""Recommenders, such as VBPR, ACF and LightGCN, and their adversarial forms.

Sampling, training steps, checkpoints of tables, top-K lists, ranks of held-out items, and attacks on
what a recommender has learnt (NumPy alone) belong here.
This is the only room that imports TensorFlow. Recommenders that are networks import torch when they run.
"""
