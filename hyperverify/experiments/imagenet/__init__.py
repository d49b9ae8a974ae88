"""Section 5.4 and Appendix B.4: a Bayesian MobileNet whose weights a linear hypernet makes from noisy embeddings."""
