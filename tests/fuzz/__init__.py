"""Inputs that nobody would send, to everything that reads what others wrote."""
