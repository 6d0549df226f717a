"""Networks that read pixels, normalise them, and return logits and features from one forward.

This room holds architectures, checkpoint formats and inference over a catalogue, but neither attacks nor
training.
"""
