"""Data sets: what each one is, where it comes from, how its files are read, and batches of it."""
