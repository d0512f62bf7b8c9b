"""Acts on many sagas or dead letters at once: exactly what a filter showed, carried out in the background."""
