"""The published data sets: what they consist of, where they are, how their files are read."""
