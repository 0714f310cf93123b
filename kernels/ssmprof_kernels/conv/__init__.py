"""The short causal convolution: `op.causal_conv1d`, and its decode step in `update`."""
