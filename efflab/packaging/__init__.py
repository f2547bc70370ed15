"""Packages one measured variant so that it runs in a bare script, without efflab."""
