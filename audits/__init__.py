"""Measurements beside the pipeline: each module is a command, and its docstring says what it answers."""
