"""Section 5.2 and Appendix B.2: three regressions in a row, the weights of a small net made by a hypernet."""
