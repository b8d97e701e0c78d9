"""CLIP as a function of (input, adapter), and everything that may change its weights."""
