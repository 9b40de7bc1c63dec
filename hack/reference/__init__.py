"""Writes docs/reference/ from the code, so that what is listed there is what there is."""
