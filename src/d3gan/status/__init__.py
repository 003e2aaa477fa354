"""How far runs are, read from their files: ``d3gan info``, ``d3gan runs``, and the lines of ``d3gan compare``."""
