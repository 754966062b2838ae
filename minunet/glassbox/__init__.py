"""A model on one image with nothing hidden: one HTML file that computes the whole pass itself, and shows every sum."""
