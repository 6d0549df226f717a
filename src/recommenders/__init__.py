"""Recommenders in TensorFlow: VBPR and its adversarial form AMR.

Sampling, training steps, checkpoints of tables, top-K lists and ranks of held-out items belong here.
This is the only room that imports TensorFlow, and it never imports torch.
"""
