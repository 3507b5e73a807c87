"""Instance masks of generated images: Mask R-CNN backends and GANverse3D's rules for keeping a view."""
