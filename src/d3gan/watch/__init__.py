"""The page of `d3gan watch`: runs while they train, in a browser on this machine."""
