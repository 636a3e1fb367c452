"""What each method trains. A method is a small module of functions; the loop in `train.py` is the same for all.

`PARTS` are loaded, `TRAINED` of them are trained and exported, and `loss_function(models, settings)` gives the
function from a batch to its per-sample losses, (B,) float32.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor

from radiffuse.methods import unet, unet_text_encoder, vae

METHODS: dict[str, ModuleType] = {"unet": unet, "unet_text_encoder": unet_text_encoder, "vae": vae}
LossFunction = Callable[[Any], Tensor]
