"""The operators' acts: who did what, to what, and why."""
