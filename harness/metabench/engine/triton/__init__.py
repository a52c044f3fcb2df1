"""Kernels of metabench's own for an NVIDIA GPU, written in Triton: batch norm with ReLU, and convolutions.

They compute what the CPU kernels do, in the same layout [T, n, H, W, C], and are differentiated by the same
functions. Triton comes with torch for CUDA; without it torch's own operations compute.
"""
