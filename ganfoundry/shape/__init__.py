"""Shapes from images: template mesh, regularisers, measures of 3D error, and the systems that predict shapes."""
