"""From masks and probabilities to numbered cells."""
