"""Beam transforms, one file per step of the way from an event to a list."""
