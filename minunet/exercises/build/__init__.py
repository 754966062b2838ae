"""Build it yourself: the five files without the bodies of their functions, and a judge for each step.

steps.py says which functions belong to which step, skeleton.py takes their bodies out of the installed source,
scenarios.py holds what is computed with them, judge.py runs the learner's files, folder.py is the learner's folder.
"""

from .steps import STEPS, Step

__all__ = ["STEPS", "Step"]
