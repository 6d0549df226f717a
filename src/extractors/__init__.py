"""Networks that read pixels: normalisation inside, logits and features out of one forward.

Architectures, checkpoint formats and running a network over a catalogue belong here. Attacking a
network and training one do not.
"""
