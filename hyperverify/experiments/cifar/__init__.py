"""Section 5.3 and Appendix B.3: an all-convolutional net on CIFAR-10, its weights made in chunks."""
