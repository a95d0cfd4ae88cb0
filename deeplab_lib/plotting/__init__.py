"""Figures of one run, while it trains and after."""
