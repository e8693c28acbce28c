"""The description of the client port, as OpenAPI 3.1 and from the same types as its answers: `GET /openapi.json`.

A new route is one `Operation` in the table of its kind (`*_operations.py`); a test names the routes that lack theirs.
"""
