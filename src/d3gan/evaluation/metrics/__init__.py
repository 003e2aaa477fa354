"""Metrics as functions of features and logits."""
