"""Repairs of int8 that loses too much: one a file, in order of cost; `run` tries them and keeps the best."""
