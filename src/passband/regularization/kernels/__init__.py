"""Values and gradients of losses, computed together by hand: in plain PyTorch, and as Triton kernels for a GPU."""
