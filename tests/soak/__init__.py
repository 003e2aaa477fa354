"""Long tests: `make soak`; `make test` takes a sample of each."""
