"""Phantoms: synthetic radiographs made from geometry, with known truth. They say nothing about patients."""

from fracray.radiographs.phantoms.dataset import contact_sheet, write_phantoms
from fracray.radiographs.phantoms.phantom import Phantom, PhantomTruth, make_phantom

__all__ = ["Phantom", "PhantomTruth", "contact_sheet", "make_phantom", "write_phantoms"]
