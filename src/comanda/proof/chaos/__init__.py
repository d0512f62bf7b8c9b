"""Hurts a running instance on purpose, and looks whether its promises hold."""
