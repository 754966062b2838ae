"""Scores: of masks, of instances, of membranes; and a model held against images with known masks."""
