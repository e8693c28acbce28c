"""Join token frames without losing a token. Pure."""

from rhapsode_contract import frames
from rhapsode_contract.frames import TOKEN_SEPARATOR

MAX_JOINED_CHARS = 4 * 1024
"""Text of one joined frame; escaped sixfold it still fits into a line."""


def tokens_in(frame: frames.Token) -> int:
    """Return how many tokens a frame stands for."""
    return frame.ts.count(TOKEN_SEPARATOR) + 1 if frame.ts else frame.count


def text_in(frame: frames.Token) -> str:
    """Return the text of a frame."""
    return frame.ts.replace(TOKEN_SEPARATOR, "") if frame.ts else frame.t


def join_tokens(last: frames.Token, frame: frames.Token) -> bool:
    """Add a frame's tokens to the frame before it, if both are plain and adjacent; return whether it was done."""
    if last.count != 1 or frame.count != 1 or last.lp or frame.lp or last.i + tokens_in(last) != frame.i:
        return False
    text, more = last.ts or last.t, frame.ts or frame.t
    if (not last.ts and TOKEN_SEPARATOR in text) or (not frame.ts and TOKEN_SEPARATOR in more):
        return False
    if len(text) + len(more) > MAX_JOINED_CHARS:
        return False
    last.t, last.ts = "", f"{text}{TOKEN_SEPARATOR}{more}"
    return True
