"""Take out of a report what a person would not paste into an issue. Called by `selfchecking`. Pure.

The report quotes what an engine printed: that may hold a token, an address with a password, or the machine's name.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from rhapsode_worker.selfcheck.findings import Report, Row

HIDDEN = "(hidden)"
_SHAPES = re.compile(
    r"\b(?:hf_|ghp_|gho_|glpat-|nvapi-|sk-)[A-Za-z0-9_-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
)
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|_KEY|APIKEY)$")
_SHORTEST = 8
"""A value of the environment that is shorter may be an ordinary word."""


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """Return the values that the environment calls secret, the longest first."""
    found = {value for name, value in environ.items() if _SECRET_NAME.search(name.upper())}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def redacted(report: Report, secrets: list[str], host: str) -> Report:
    """Return the report without secrets and without the machine's name."""
    checks = [_clean_row(row, secrets, host) for row in report.checks]
    return msgspec.structs.replace(report, model=clean_text(report.model, secrets, host), checks=checks)


def _clean_row(row: Row, secrets: list[str], host: str) -> Row:
    """Return a row without them. Its name and outcome are our words, whatever the machine is called."""
    said = {name: _clean(getattr(row, name), secrets, host) for name in ("measured", "remedy", "lines", "facts")}
    return msgspec.structs.replace(row, **said)


def _clean(value: Any, secrets: list[str], host: str) -> Any:
    if isinstance(value, str):
        return clean_text(value, secrets, host)
    if isinstance(value, list):
        return [_clean(one, secrets, host) for one in value]
    if isinstance(value, dict):
        return {name: _clean(one, secrets, host) for name, one in value.items()}
    return value


def clean_text(text: str, secrets: list[str], host: str) -> str:
    """Return one text without them."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _SHAPES.sub(HIDDEN, text)
    return (
        re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "(host)", text) if host not in ("", "localhost") else text
    )
