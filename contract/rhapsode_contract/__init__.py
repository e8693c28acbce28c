"""What the parts of Rhapsode agree on: frames, events, resources and words. Imports nothing but msgspec."""
