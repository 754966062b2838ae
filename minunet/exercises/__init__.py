"""Thirty bugs to find: real operations with a fault in each, and a judge that names the first wrong tensor.

bugs.py is the list, source.py takes the operations out of the installed source and puts others in their place,
scenarios.py holds what is computed with them, judge.py compares, workbook.py is the learner's folder.
"""

from .bugs import EXERCISES, Exercise

__all__ = ["EXERCISES", "Exercise"]
