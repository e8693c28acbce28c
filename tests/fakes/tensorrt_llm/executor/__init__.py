"""Where the real package keeps what runs requests."""
