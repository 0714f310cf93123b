"""RWKV-7's rule over a prompt and for one token."""

from ssmprof_kernels.rwkv7.scan import rwkv7, scan

