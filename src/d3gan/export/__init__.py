"""A run's generator for others: weights, ONNX, a page to play with, a folder for the Hugging Face hub."""
