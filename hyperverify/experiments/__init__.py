"""The paper's experiments (Section 5, Appendix B) on real data: what the variance rules do to training.

``data`` reads the official files. ``mnist``, ``continual``, ``cifar`` and ``imagenet`` run Sections 5.1 to 5.4;
what is measured before the first step is held against the oracle of second moments (``at_init``). A run is a ``record``
(JSON) with its ``arrays``, and ``page`` makes one HTML file of the two.
"""
