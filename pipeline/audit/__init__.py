"""The audit: what compression changed that one accuracy number does not show, judged on the file that an app ships.

config: what is asked. inputs: the examples, corrupted, attacked and strange. figures: what is computed of the answers.
stage: both models' answers, and the result.
"""
