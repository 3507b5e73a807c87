"""The commands: one module is one stage, its configuration and the function that does it."""
