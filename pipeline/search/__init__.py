"""The best file within a budget: a search over chains of techniques and their settings.

budget ─► space of chains ─► trials (Optuna) ─► judged on the validation split ─► front, best ─► judged on test
"""
