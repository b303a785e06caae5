"""`tic-tac-toe`: every position that can occur, solved: best moves and outcome, for policy–value networks."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from pydantic import Field

from edgedl.core.contract import InputContract
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))

Board = tuple[int, ...]
"""Nine fields: 1 is the player to move, −1 the opponent, 0 empty."""


class TicTacToe(Source):
    """The 4,520 positions in which somebody can still move, each with all best moves by minimax."""

    source: Literal["tic-tac-toe"] = Field(description="All positions of tic-tac-toe with their best moves.")

    def load(self) -> RawData:
        """Boards (n, 3, 3, 2): own and opponent's stones; targets (n, 10): chance of each best move, then the value."""
        found: dict[Board, None] = {}
        ahead = [(0,) * 9]
        while ahead:
            board = ahead.pop()
            if board not in found and outcome(board) is None:
                found[board] = None
                ahead += [play(board, move) for move in range(9) if not board[move]]
        boards = np.array(list(found), np.float32).reshape(-1, 3, 3)
        targets = np.array([_target(board) for board in found], np.float32)
        return RawData(
            examples=ArrayExamples(np.stack([boards == 1, boards == -1], axis=-1).astype(np.float32), targets),
            task="policy-value",
            input=InputContract("board", (3, 3, 2), feature_names=("own", "opponent"), raw_range=(0.0, 1.0)),
            normalize="none",
        )


def play(board: Board, move: int) -> Board:
    """The board as the opponent then sees it."""
    return tuple(-1 if field == move else -stone for field, stone in enumerate(board))


def outcome(board: Board) -> int | None:
    """−1 where the player to move has lost, 0 for a full board, None where the game goes on."""
    if any(board[a] == board[b] == board[c] == -1 for a, b, c in LINES):
        return -1
    return None if 0 in board else 0


@functools.cache
def value(board: Board) -> int:
    """1, 0 or −1: what the player to move reaches against best play."""
    ended = outcome(board)
    return max(-value(play(board, move)) for move in range(9) if not board[move]) if ended is None else ended


def _target(board: Board) -> list[float]:
    best = [not board[move] and -value(play(board, move)) == value(board) for move in range(9)]
    return [float(one) / sum(best) for one in best] + [float(value(board))]
