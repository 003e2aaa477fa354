"""Many runs compared: a grid of them trained, read, put into figures, tables and one sentence."""
