"""Data sets: what each one is, its sources, how its files are read, and batches of its images."""
