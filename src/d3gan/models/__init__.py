"""Network architectures: one file each, with resolution and channels as arguments."""
