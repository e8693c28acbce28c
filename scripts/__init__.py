"""Programs of the house."""
