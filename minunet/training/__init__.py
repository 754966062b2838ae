"""Training: the loop, its recipes, and a run in a folder that can be stopped and gone on with."""
