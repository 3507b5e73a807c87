"""StyleGAN2: networks, training, checkpoints and latents."""
