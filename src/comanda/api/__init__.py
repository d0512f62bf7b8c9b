"""The HTTP API: one file for each resource, every status code in `problems.py`."""
