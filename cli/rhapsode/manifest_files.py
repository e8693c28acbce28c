"""Read the manifests that people write. Called by `playing`."""

from pathlib import Path

import yaml

from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.validating import ManifestError, Problem, decode_manifest

MAX_BYTES = 1024 * 1024


def read_manifest(path: Path) -> InferenceWorker:
    """Return the one InferenceWorker in a YAML or JSON file. ManifestError says all that is wrong with it."""
    try:
        raw = path.read_bytes()
        documents = [document for document in yaml.safe_load_all(raw[: MAX_BYTES + 1]) if document is not None]
    except OSError as exc:
        raise ManifestError([Problem("", exc.strerror or "cannot be read")]) from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ManifestError([Problem("", f"not YAML: {' '.join(str(exc).split())[:200]}")]) from exc
    if len(raw) > MAX_BYTES:
        raise ManifestError([Problem("", f"longer than {MAX_BYTES} bytes")])
    if len(documents) != 1:
        raise ManifestError([Problem("", f"expected one InferenceWorker, found {len(documents)} documents")])
    return decode_manifest(documents[0])
