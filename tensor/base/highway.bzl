"""For which instruction sets files with Highway kernels are compiled."""

# Each set of instructions adds a fifth to a quarter to the build time of the kernels. Machines without
# AVX2 (before 2013, a few small ones since) compute with SSE2.
KERNEL_DEFINES = ["HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4)"]
