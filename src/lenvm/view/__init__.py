"""Completions as a page: every token coloured by how it changed the expected length."""
