"""Samples: rules that draw support and query sentences, each in a module of its own."""

from fewtable.sampling.drawing import draw, draw_all, draw_block, known_types, read_sample_spec

__all__ = ["draw", "draw_all", "draw_block", "known_types", "read_sample_spec"]
