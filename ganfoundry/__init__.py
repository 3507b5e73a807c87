"""Models and maths of a dataset factory from image GANs."""
