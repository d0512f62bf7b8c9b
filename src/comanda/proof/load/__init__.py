"""Drives a running instance over HTTP as its customers would, and follows each accepted order to its end."""
