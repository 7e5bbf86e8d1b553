"""Guided decoding: candidates, their scores, rules that re-weight them, and the loop that writes (DESIGN section 5)."""
