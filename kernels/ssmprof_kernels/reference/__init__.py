"""Every operation in plain torch: the oracle of the tests and the provider on a CPU.

Promises: per operation a sequential form that follows the recurrence token by token (fp64 capable),
and a fast form with the signature of the kernel.
"""

from ssmprof_kernels.attention.reference import attention_decode, attention_decode_sequential
from ssmprof_kernels.conv.reference import (
    causal_conv1d,
    causal_conv1d_sequential,
    causal_conv1d_update,
    causal_conv1d_update_sequential,
)
from ssmprof_kernels.norm.reference import gated_rmsnorm, gated_rmsnorm_sequential
from ssmprof_kernels.reference.delta_ops import (
    gated_delta,
    gated_delta_sequential,
    gated_delta_step,
    gated_delta_step_sequential,
    kda,
    kda_sequential,
    kda_step,
    kda_step_sequential,
)
from ssmprof_kernels.reference.experts import grouped_mm, grouped_mm_sequential, moe_sequential
from ssmprof_kernels.reference.latent import (
    latent_attention_sequential,
    latent_decode,
    latent_decode_sequential,
    latent_rotary,
    latent_rotary_sequential,
)
from ssmprof_kernels.reference.linear_attention import (
    gla,
    gla_sequential,
    gla_step,
    gla_step_sequential,
    lightning,
    lightning_sequential,
    lightning_step,
    lightning_step_sequential,
    retention,
    retention_sequential,
    retention_step,
    retention_step_sequential,
)
from ssmprof_kernels.reference.mamba3 import mamba3_scan, mamba3_sequential, mamba3_step
from ssmprof_kernels.reference.mamba3_walk import mamba3_scan_sequential, mamba3_step_sequential
from ssmprof_kernels.reference.mlstm import mlstm_scan, mlstm_sequential, mlstm_step
from ssmprof_kernels.reference.rglru import rglru_scan, rglru_sequential, rglru_step
from ssmprof_kernels.reference.rwkv7 import (
    rwkv7,
    rwkv7_sequential,
    rwkv7_step,
    rwkv7_step_sequential,
)
from ssmprof_kernels.reference.rwkv7_mixing import (
    rwkv7_keys,
    rwkv7_keys_sequential,
    rwkv7_output,
    rwkv7_output_sequential,
    token_shift,
    token_shift_sequential,
)
from ssmprof_kernels.relu2.reference import relu2, relu2_sequential
from ssmprof_kernels.ring_update.reference import (
    ring_state_update,
    ring_state_update_sequential,
)
from ssmprof_kernels.selective_scan.reference import selective_scan, selective_scan_sequential
from ssmprof_kernels.ssd.reference import ssd_scan, ssd_scan_sequential
from ssmprof_kernels.state_update.reference import (
    selective_state_update,
    selective_state_update_sequential,
)

__all__ = [
    "attention_decode",
    "attention_decode_sequential",
    "causal_conv1d",
    "causal_conv1d_sequential",
    "causal_conv1d_update",
    "causal_conv1d_update_sequential",
    "gated_delta",
    "gated_delta_sequential",
    "gated_delta_step",
    "gated_delta_step_sequential",
    "gated_rmsnorm",
    "gated_rmsnorm_sequential",
    "gla",
    "gla_sequential",
    "gla_step",
    "gla_step_sequential",
    "grouped_mm",
    "grouped_mm_sequential",
    "kda",
    "kda_sequential",
    "kda_step",
    "kda_step_sequential",
    "latent_attention_sequential",
    "latent_decode",
    "latent_decode_sequential",
    "latent_rotary",
    "latent_rotary_sequential",
    "lightning",
    "lightning_sequential",
    "lightning_step",
    "lightning_step_sequential",
    "mamba3_scan",
    "mamba3_scan_sequential",
    "mamba3_sequential",
    "mamba3_step",
    "mamba3_step_sequential",
    "mlstm_scan",
    "mlstm_sequential",
    "mlstm_step",
    "moe_sequential",
    "relu2",
    "relu2_sequential",
    "retention",
    "retention_sequential",
    "retention_step",
    "retention_step_sequential",
    "rglru_scan",
    "rglru_sequential",
    "rglru_step",
    "ring_state_update",
    "ring_state_update_sequential",
    "rwkv7",
    "rwkv7_keys",
    "rwkv7_keys_sequential",
    "rwkv7_output",
    "rwkv7_output_sequential",
    "rwkv7_sequential",
    "rwkv7_step",
    "rwkv7_step_sequential",
    "selective_scan",
    "selective_scan_sequential",
    "selective_state_update",
    "selective_state_update_sequential",
    "ssd_scan",
    "ssd_scan_sequential",
    "token_shift",
    "token_shift_sequential",
]
