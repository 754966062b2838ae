"""What is wrong with a data set, before hours are spent on it: `minunet doctor IMAGES MASKS`.

examine.py asks every check and gathers what they find; the checks are in values.py (sizes, channels, brightness,
classes), placement.py (inverted and shifted masks), likeness.py (swapped folders, near-duplicates) and plan.py (memory
and time); report.py and sheet.py show the result, as text and as a picture.
"""

from minunet.doctor.examine import Examination, Question, examine
from minunet.doctor.findings import Finding

__all__ = ["Examination", "Finding", "Question", "examine"]
