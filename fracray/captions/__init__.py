"""Describing radiographs in words: one protocol, three captioners, and what a caption says."""
