"""What a run is told: keys, files, flags, and the checks of both."""
