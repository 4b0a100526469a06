"""Two of kornia's steps that draw as albumentations does, where kornia by itself does not.

So a preset means the same on a GPU as on a CPU. Needs kornia: imported where a step is built.
"""

from __future__ import annotations

import kornia.augmentation as K
import torch


class Affine(K.RandomAffine):
    """Zoom, then rotation, then shear along both axes at once, then a shift by whole pixels.

    kornia shears before it turns, one axis after the other, and shifts by parts of pixels.
    """

    def compute_transformation(self, input, params, flags):
        """Matrices (batch, 3, 3) from pixels of the photo to pixels of what is made of it."""
        names = ("angle", "shear_x", "shear_y")
        angle, along_x, along_y = (torch.deg2rad(params[name].to(input)) for name in names)
        cos, sin, one = angle.cos(), angle.sin(), torch.ones_like(angle)
        rotation = torch.stack([cos, sin, -sin, cos], dim=-1).view(-1, 2, 2)
        shear = torch.stack([one, along_x.tan(), along_y.tan(), one], dim=-1).view(-1, 2, 2)
        linear = shear @ rotation * params["scale"].to(input)[:, None]
        center = params["center"].to(input)[..., None]
        shift = params["translations"].to(input).trunc()[..., None]
        matrix = torch.eye(3).to(input).repeat(len(angle), 1, 1)
        matrix[:, :2] = torch.cat([linear, shift + center - linear @ center], dim=-1)
        return matrix


class Erasing(K.RandomErasing):
    """One erased rectangle, whose width over height is uniform.

    kornia draws half of them upright, half of them lying.
    """

    def generate_parameters(self, batch_shape):
        """kornia's parameters, but for sides and place; a value per photo, in pixels."""
        drawn = super().generate_parameters(batch_shape)
        height, width = batch_shape[-2:]
        area = torch.empty_like(drawn["xs"]).uniform_(*self.scale) * height * width
        ratio = torch.empty_like(area).uniform_(*self.ratio)
        drawn["widths"] = (area * ratio).sqrt().round().clamp(max=width)
        drawn["heights"] = (area / ratio).sqrt().round().clamp(max=height)
        drawn["xs"] = (torch.rand_like(area) * (width - drawn["widths"] + 1)).floor()
        drawn["ys"] = (torch.rand_like(area) * (height - drawn["heights"] + 1)).floor()
        return drawn
