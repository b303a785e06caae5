from __future__ import annotations

from edgedl.pipeline.cli.output import split_list


def test_a_list_on_the_command_line_may_hold_lists():
    given = "distill:student.filters=[4, 8]+int8, int8,x:{a: 1, b: [2,3]}"
    assert split_list("--method", given) == ["distill:student.filters=[4, 8]+int8", "int8", "x:{a: 1, b: [2,3]}"]
