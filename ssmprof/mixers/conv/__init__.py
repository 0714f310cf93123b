"""The short causal convolution that state-space sub-layers begin with."""
