"""Compares finished runs: reads them, and makes figures, tables and one sentence."""
