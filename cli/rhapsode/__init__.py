"""Rhapsode on the command line, and what a script in the pod needs to narrate.

>>> from rhapsode import Narrator
"""

from rhapsode.narrator import Narrator

__all__ = ["Narrator"]
