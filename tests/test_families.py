"""Every kernel name that a family claims, as profilers print it on real machines."""

import pytest

from ssmprof.families import FAMILIES, family_of, op_base

KERNELS = {
    "attention": [
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64>>",
        "void pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<64, 64, 256>>",
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_6_128x128x128_4x1x1",
        "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::Main>>>",
        "ssmprof_attention_split",
        "ssmprof_attention_merge",
    ],
    "scan": [
        "void selective_scan_fwd_kernel<Selective_Scan_fwd_kernel_traits<128, 16, 1, false>>",
        "_chunk_cumsum_fwd_kernel",
        "_chunk_state_fwd_kernel",
        "_state_passing_fwd_kernel",
        "_bmm_chunk_fwd_kernel",
        "_chunk_scan_fwd_kernel",
        "_selective_scan_update_kernel",
        "mamba3_siso_fwd_kernel",
        "angle_dt_fwd_kernel",
        "chunk_fwd_kernel_h",
        "chunk_fwd_kernel_o",
        "chunk_gated_delta_rule_fwd_kkt_solve_kernel",
        "recompute_w_u_fwd_kernel",
        "chunk_dplr_fwd_kernel_h",
        "fused_recurrent_gated_delta_rule_fwd_kernel",
        "fused_recurrent_rwkv7_fwd_kernel",
        "ssmprof_scan_selective",
        "ssmprof_scan_state_update",
        "ssmprof_scan_ssd_summaries",
        "ssmprof_scan_ssd_prepare",
        "ssmprof_scan_ssd_walk_hopper",
    ],
    "conv": [
        "void causal_conv1d_fwd_kernel<Causal_conv1d_fwd_kernel_traits<128, 4>>",
        "void causal_conv1d_channellast_fwd_kernel<Causal_conv1d_traits<128>>",
        "void causal_conv1d_update_kernel<Causal_conv1d_update_kernel_traits<64, 4>>",
        "ssmprof_conv_rows",
        "ssmprof_conv_update",
        "void at::native::conv_depthwise2d_forward_kernel<1, c10::BFloat16, int>",
    ],
    "moe": ["fused_moe_kernel"],
    "norm": [
        "_layer_norm_fwd_1pass_kernel",
        "layer_norm_gated_fwd_kernel",
        "void at::native::vectorized_layer_norm_kernel<c10::BFloat16, float>",
        "l2norm_fwd_kernel",
        "ssmprof_norm_gated_rms",
        "ssmprof_norm_add_rms",
        "ssmprof_norm_rwkv7_output",
    ],
    "rope": [
        *("apply_rotary_kernel", "rotary_embedding_kernel"),
        *("ssmprof_rope_rotary", "ssmprof_rope_latent"),
    ],
    "gemm": [
        "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_warpgroupsize1x1x1",
        "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_64x3_tn",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x128>",
        "void cutlass_80_wmma_tensorop_bf16_s161616gemm",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float>",
        "void gemv2T_kernel_val<int, int, __nv_bfloat16, float, 128, 16, 4, 4, false, false>",
        "std::enable_if<true, void>::type internal::gemvx::kernel<int, int, __nv_bfloat16>",
    ],
    "embedding": [
        "void at::native::(anonymous namespace)::indexSelectLargeIndex<c10::BFloat16, long>",
        "void at::native::vectorized_gather_kernel<16, long>(char*, char*, long*)",
    ],
    "copy": [
        "Memcpy DtoD (Device -> Device)",
        "Memset (Device)",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_contig<OpaqueType<2>, uint>",
        "void at::native::elementwise_kernel<128, 4, direct_copy_kernel_cuda(TensorIteratorBase&)>",
    ],
    "elementwise": [
        "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>",
        "void at::native::unrolled_elementwise_kernel<at::native::CUDAFunctor_add<c10::BFloat16>>",
        "triton_poi_fused_add_mul_silu_0",
        "ssmprof_elementwise_swiglu",
        "ssmprof_elementwise_token_shift",
        "ssmprof_elementwise_rwkv7_keys",
        "ssmprof_elementwise_relu2",
    ],
    "other": ["a_kernel_nobody_has_seen", ""],
}


@pytest.mark.parametrize(
    ("family", "kernel"), [(family, name) for family, names in KERNELS.items() for name in names]
)
def test_a_kernel_name_has_its_family(family, kernel):
    assert family_of("", kernel) == family


@pytest.mark.parametrize(
    ("mangled", "family"),
    [
        ("_ZN2at6native29vectorized_elementwise_kernelILi4E", "elementwise"),
        ("_ZN13pytorch_flash16flash_fwd_kernelI23Flash_fwd_kernel_traits", "attention"),
        ("_Z25selective_scan_fwd_kernelI32Selective_Scan_fwd_kernel_traits", "scan"),
    ],
)  # fmt: skip
def test_mangled_names_are_recognised(mangled, family):
    assert family_of("", mangled) == family


@pytest.mark.parametrize(
    ("op", "kernel", "family"),
    [
        ("aten::mm.default", "", "gemm"),
        ("aten::addmm", "some_unknown_kernel", "gemm"),
        ("aten::_scaled_dot_product_cudnn_attention", "cutlass_gemm", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "", "attention"),
        ("aten::embedding.default", "vectorized_gather_kernel", "embedding"),
        ("aten::_fused_rms_norm", "", "norm"),
        ("aten::convolution.default", "", "conv"),
        ("aten::silu.default", "", "elementwise"),
        ("aten::copy_.default", "", "copy"),
        ("aten::cumsum.default", "", "other"),
        ("triton", "_chunk_scan_fwd_kernel", "scan"),
    ],
)  # fmt: skip
def test_the_op_decides_before_the_kernel(op, kernel, family):
    assert family_of(op, kernel) == family


def test_attention_is_never_the_gemm_inside_it():
    assert family_of("aten::scaled_dot_product_attention", "nvjet_tst_128x256") == "attention"


@pytest.mark.parametrize(
    "op", ["aten::bmm", "aten::_softmax", "aten::mul", "aten::cumsum", "aten::sum"]
)
def test_a_core_scope_renames_generic_ops(op):
    assert family_of(op, "", core="scan") == "scan"


@pytest.mark.parametrize(
    ("op", "kernel", "family"),
    [
        ("aten::mm", "", "gemm"),
        ("aten::scaled_dot_product_attention", "", "attention"),
        ("triton", "_gated_rmsnorm_kernel", "norm"),
        ("triton", "_causal_conv_fwd_kernel", "conv"),
    ],
)
def test_a_core_scope_cannot_rename_specific_kernels(op, kernel, family):
    assert family_of(op, kernel, core="scan") == family


def test_a_scope_that_is_no_family_changes_nothing():
    assert family_of("aten::mul", "", core="in_proj") == "elementwise"


def test_a_bmm_outside_a_core_scope_is_a_gemm():
    assert family_of("aten::bmm", "") == "gemm"


def test_base_names_lose_namespace_and_overload():
    assert op_base("aten::mm.default") == "mm"
    assert "launch-gap" in FAMILIES
