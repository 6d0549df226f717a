"""Faults: damaged artifacts, wrong command lines and kills, and what the stages make of them.

``python -m tests.faults`` runs every case and prints its figures; ``test_faults.py`` runs a sample.
"""
