"""minidl: a small deep learning framework with PyTorch's names."""
