"""Devices: every operation on raw arrays, once in readable NumPy and once per fast device."""
