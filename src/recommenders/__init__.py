"""Recommenders in TensorFlow: VBPR, BPR-MF and their adversarial forms AMR and AMF.

Sampling, training steps, checkpoints of tables, top-K lists, ranks of held-out items, and attacks on
what a recommender has learnt (NumPy alone) belong here.
This is the only room that imports TensorFlow, and it never imports torch.
"""
