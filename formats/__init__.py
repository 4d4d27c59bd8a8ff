"""Placeholder until the register is written."""
