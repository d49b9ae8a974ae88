"""The paper, claim by claim: what Section 5 and Appendix B say, and what finished records say of it.

Each claim is a statement in our own words with a criterion, a function of a record and its arrays that was laid
down before any full run was looked at (``feedforward``, ``figures``, ``continual``, ``convolutional``,
``bayesian``, ``closing``). ``judging`` applies them, ``page`` shows what came out.
"""
