"""Augmentations of what the discriminators see: DiffAugment and ADA, in plain PyTorch."""
