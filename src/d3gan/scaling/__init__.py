"""Training measured on 1, 2, … processes: its plots, and what an all-reduce cost model makes of it for more."""
