"""What a convolution does with your input, shown on your own layer and data.

    print(explain.shape(nn.Conv2d(3, 6, 5, stride=2), (1, 3, 32, 32)))   the output's size, derived
    print(explain.pixel(layer, images, n=0, oc=2, oh=4, ow=4))           one output number, taken apart
    explain.channels(layer, images).figure                               what each kernel makes of each channel
    explain.page(layer, images)                                          all of it to play with, in a browser

All of it is computed with the sizes of ``minidl.geometry`` and compared with what the layer itself gives.  Texts need
NumPy only; pictures need the extra ``minidl[explain]``, which a call without it says.
"""

from typing import TYPE_CHECKING

from minidl._on_first_use import on_first_use

if TYPE_CHECKING:
    from minidl.explain.animations import animate
    from minidl.explain.channel_maps import channels
    from minidl.explain.correlation import correlation_vs_convolution
    from minidl.explain.html_page import page
    from minidl.explain.matrices import matrix
    from minidl.explain.networks import network
    from minidl.explain.pixel_gradients import pixel_grad
    from minidl.explain.pixels import pixel
    from minidl.explain.shapes import shape
    from minidl.explain.training_pictures import activations, confusion, curves, filters, mistakes
    from minidl.explain.ways import algorithms
else:
    __getattr__, __dir__ = on_first_use(__name__, {
        "activations": "minidl.explain.training_pictures",
        "algorithms": "minidl.explain.ways",
        "animate": "minidl.explain.animations",
        "channels": "minidl.explain.channel_maps",
        "confusion": "minidl.explain.training_pictures",
        "correlation_vs_convolution": "minidl.explain.correlation",
        "curves": "minidl.explain.training_pictures",
        "filters": "minidl.explain.training_pictures",
        "matrix": "minidl.explain.matrices",
        "mistakes": "minidl.explain.training_pictures",
        "network": "minidl.explain.networks",
        "page": "minidl.explain.html_page",
        "pixel": "minidl.explain.pixels",
        "pixel_grad": "minidl.explain.pixel_gradients",
        "shape": "minidl.explain.shapes",
    })
    __all__ = [name for name in __dir__() if not name.startswith("_")]
