"""A variant: language model, projector and mode, saved and loaded."""
