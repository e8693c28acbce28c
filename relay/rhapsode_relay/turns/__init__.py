"""Two-phase turns: what decides about them (`contracts` and below), and what carries them out (`turns`, `routes`)."""
