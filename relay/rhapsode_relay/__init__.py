"""The relay: merges what a worker does (narration) with what it says (tokens) into SSE streams."""
