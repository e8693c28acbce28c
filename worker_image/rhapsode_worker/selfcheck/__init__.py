"""Find out whether an engine works here, from the driver to the last byte of memory. Called by `selfchecking`.

The engine runs as it does under a worker: in a process of its own, so that a crash, a hang or an import of minutes is
survived and told.
"""
