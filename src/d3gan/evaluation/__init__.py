"""Measuring images: FID, Inception Score, KID, precision and recall, density and coverage, authenticity."""
