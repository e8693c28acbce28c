"""Where a model comes from: `builtin://name`, `hf://org/repo[@rev]`, `pvc://claim/path`, `file:///path`."""

import re
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

Scheme = Literal["builtin", "hf", "pvc", "file"]

SOURCE_PATTERN = (
    r"^(builtin://[a-z0-9][a-z0-9.-]*"
    r"|hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._/-]*)?"
    r"|pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?/.+"
    r"|file:///.+)$"
)
SOURCE_FORMS = "builtin://NAME, hf://ORG/REPO[@REV], pvc://CLAIM/PATH or file:///PATH"

_SOURCE = re.compile(SOURCE_PATTERN.removesuffix("$") + r"\Z")


class ModelSource(NamedTuple):
    """A parsed source. `place` is a name, `org/repo`, a claim or an absolute path; `detail` the rest."""

    scheme: Scheme
    place: str
    detail: str

    def default_name(self) -> str:
        """Return the last part of the source, without the suffix of a model file."""
        last = self.place if self.scheme in ("builtin", "hf") else self.detail or self.place
        name = PurePosixPath(last).name
        return name.removesuffix(".gguf")


def parse_source(text: str) -> ModelSource:
    """Return the parts of a source; ValueError names the forms that exist."""
    if not _SOURCE.match(text) or ".." in PurePosixPath(text.partition("://")[2]).parts:
        raise ValueError(f"expected {SOURCE_FORMS}, got {text!r}")
    scheme, _, rest = text.partition("://")
    if scheme == "hf":
        place, _, detail = rest.partition("@")
        return ModelSource("hf", place, detail)
    if scheme == "pvc":
        place, _, detail = rest.partition("/")
        return ModelSource("pvc", place, detail)
    if scheme == "builtin":
        return ModelSource("builtin", rest, "")
    return ModelSource("file", rest, "")
