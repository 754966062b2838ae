"""What is shown: pictures, tables, progress, models in a notebook."""
