"""Section 5.1 and Appendix B.1: a feedforward net on MNIST, its weights made by a hypernet or its own."""
