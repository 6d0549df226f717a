"""Measurements beside the pipeline. Each module is a command, which its docstring describes."""

import src.interrupts
