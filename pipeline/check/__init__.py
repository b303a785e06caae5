"""Slower, bigger or worse than before?

limits: what is allowed. files: one file against another. figures, judge: the questions. explain: which ops did it.
baseline, locate: what was accepted, and where that file is. latency_yaml, gate: several models on several devices.
history, series, change_points: what was seen over time, and where it changed. words: the answers, for people and for
build servers.
"""
