"""Inversion: from pictures to the latents that make them.

    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.inversion import invert

    found = invert(load_gan("cars-64"), images)  # (N, R, R, 3) uint8; found.w, found.images, found.psnr

Optimisation in W, or in W+ held near W (`optimisation`), of pixels and of the features of the generator's own
discriminator (`objective`), from the guess of a small network trained on the generator's samples (`encoder`,
`encoder_training`). Pivotal tuning (`pivotal`) then bends a copy of the generator until it makes the picture.
"""

from ganfoundry.gan.inversion.encoder import Encoder
from ganfoundry.gan.inversion.objective import Objective, psnr
from ganfoundry.gan.inversion.optimisation import Inversions, Optimisation, invert
from ganfoundry.gan.inversion.pivotal import Tuning, tune_generator
from ganfoundry.gan.inversion.wspace import WSpace

__all__ = ["Encoder", "Inversions", "Objective", "Optimisation", "Tuning", "WSpace", "invert", "psnr", "tune_generator"]
