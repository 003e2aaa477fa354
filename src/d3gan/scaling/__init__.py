"""Measures training on 1, 2, … processes, plots it, and projects it onto more with an all-reduce cost model."""
