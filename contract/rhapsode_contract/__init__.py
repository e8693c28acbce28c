"""What the parts of Rhapsode agree on: frames, events, resources and words. Imports nothing but msgspec."""

__version__ = "0.1.0"
"""Of all five packages; here, since an image holds packages and no metadata. `pyproject.toml` has the same."""
