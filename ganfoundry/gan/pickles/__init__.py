"""Pickled networks, read as data: nothing in a file is imported, called or executed, and torch is not needed.

``machine`` turns opcodes into an inert tree, ``tensors`` and ``modules`` look up in the tree what a network is made of.
"""
