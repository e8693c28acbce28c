"""The worker: a supervisor that narrates, and one engine process that it watches over."""
