"""What two-phase turns cost a relay, beside the model, the sinks and the text: a part of `python -m bench`."""
