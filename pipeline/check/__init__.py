"""Slower, bigger or worse than before?"""

from edgedl.pipeline.check.files import check
from edgedl.pipeline.check.outcome import exit_code
from edgedl.pipeline.check.stage import check_stage
from edgedl.pipeline.check.words import explanation_in_words, to_junit, to_markdown, to_sarif

__all__ = ["check", "check_stage", "exit_code", "explanation_in_words", "to_junit", "to_markdown", "to_sarif"]
