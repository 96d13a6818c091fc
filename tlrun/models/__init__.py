"""What learns: backbones of ordered stages, the model made of one, and the weights put into it.

A module here that a config may name (`model: {name: lenet}`) holds exactly one `Backbone` subclass with its nested
`Config`; `transfer.py` holds what they share, `zoo.py` puts weights in place, `vision.py` imports torchvision.
"""
