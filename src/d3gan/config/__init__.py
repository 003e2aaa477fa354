"""The config of a run: its keys, the .ini files and flags that set them, and the checks of both."""
