"""Prediction: one image of any size, whole or in tiles, and files of any number and size."""
