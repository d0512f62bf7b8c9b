"""Comanda: a headless order engine."""

__version__ = "0.1.0"
