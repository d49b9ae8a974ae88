"""All claims in the order of the paper, and the sentences that are none."""

from __future__ import annotations

from typing import Final

from hyperverify.experiments.claims import (
    bayesian,
    closing,
    continual,
    convolutional,
    feedforward,
    figures,
    nets,
)
from hyperverify.experiments.claims.claim import Claim, Remark

SECTIONS: Final = {
    "5.1": "Feedforward networks on MNIST",
    "B.1.1": "Feedforward networks, the hypernet generates weights only: the figures",
    "B.1.2": "Feedforward networks, the hypernet generates weights and biases: the figures",
    "B.1.3": "Combinations of fan-in and fan-out",
    "5.2": "Continual learning on regression tasks",
    "B.2": "Continual learning, in the appendix",
    "5.3": "Convolutional networks on CIFAR-10",
    "B.3": "Convolutional networks, in the appendix",
    "5.4": "Bayesian neural networks on ImageNet",
    "5": "How Section 5 closes",
}


def _ordered() -> tuple[Claim, ...]:
    every = [
        *feedforward.CLAIMS,
        *figures.CLAIMS,
        *continual.CLAIMS,
        *convolutional.CLAIMS,
        *bayesian.CLAIMS,
        *closing.CLAIMS,
    ]
    places = list(SECTIONS)
    return tuple(sorted(every, key=lambda claim: places.index(claim.section)))


CLAIMS: Final = _ordered()

REMARKS: Final = (
    Remark(
        "5",
        "All experiments use plain SGD and draw from uniform distributions of the stated variances.",
        "Set-up, and the default here; hyperverify run checks the variances themselves.",
    ),
    Remark(
        "5.3",
        "The methods do not handle residual connections, which Ha et al.'s mainnet has.",
        "A limit that the authors state; nothing here has residual connections.",
    ),
    Remark(
        "5.4",
        "Bayesian networks improve calibration and estimate uncertainty.",
        "Background, of other work; calibration is not measured.",
    ),
    Remark(
        "5.4",
        "Variances from a principle are preferable to Ukai et al.'s heuristics by trial and error.",
        "A judgement; their heuristics are not among the initializations compared.",
    ),
    Remark(
        "5.4",
        "Batch norm should not be relied on, least of all where memory limits the batch: it needs large ones.",
        "Advice, and an argument from other work (Wu and He); the batch is not varied here.",
    ),
    Remark(
        "5.4",
        "How batch norm and initialization interact is not well understood, even in classical nets.",
        "An opinion on the state of knowledge.",
    ),
    Remark(
        "B.1 to B.4",
        "Widths, batch sizes, learning rates, epochs, embeddings, regularization, what is measured and when.",
        "Set-up: each record states its own, and where the paper leaves it open how it was read.",
    ),
    Remark(
        "B.1.3",
        "Glorot and Bengio took the harmonic mean; He et al. remark that either rule suffices since the two differ by "
        "a factor that does not depend on depth.",
        "Cited, and a consequence of the formulas: the gains of the two rules differ by d_i/d_j a layer, whose product "
        "over the layers is the output's width over the input's.",
    ),
    Remark(
        "B.4",
        "Ukai et al. showed that L2-regularization and stochastic embeddings make a hypernet Bayesian; test losses are "
        "left out of Figure 6 for their cost.",
        "Cited work, and set-up.",
    ),
)
"""Sentences of Section 5 and Appendix B on which nothing is measured."""

RULES: Final = (
    nets.RULE,
    (
        "Records of one experiment that differ in the seed only are judged together. Of each experiment all such groups "
        "count whose scale is that which the claim asks for, or above, under the default readings: the claim is "
        "REPRODUCED if it is in all of them, and its requirements are counted in each. Without one the largest scale "
        "counts. The others stand beside it."
    ),
    (
        "A seed whose record lacks what a claim needs is named, and the others are judged. A method of which no run "
        "stays finite has an infinite loss: that is a result, and nothing that lacks."
    ),
)
"""What holds for several claims."""

CHANGED: Final = (
    "5.1, ties: settling times that differ by less than 1e-9 of training are equal.",
    (
        "5.1 and Figure 17, steadiness: drift, settling times and rises of the loss are judged only of nets that "
        "train. Before, what diverged counted as unstable, and what was stuck as steady where its weights stood still."
    ),
    (
        "The same, later: a net under Xavier's or Kaiming's rule that trained and then collapsed or diverged is judged "
        "by the same numbers; a hyperfan net that does not train fails. Before, neither was judged."
    ),
    "5.1, first activations: marked as implied; Section 5.1 does not say it in words.",
    "5.2: what is shown beside the requirements is no requirement.",
    (
        "5.2: the losses before the first step are those of all runs. Before, runs that diverged later were left out, "
        "and with them the largest first losses."
    ),
    (
        "5.2: all records at the scale that is asked for count. Before, the 15 runs of each other seed stood beside the "
        "largest record."
    ),
    "5.3: tries too short for hyperfan to begin are not judged, and what never begins is not judged as delayed.",
    (
        "5.3: a net has begun to train by its training accuracy too, where the record has it; what the best of the rates "
        "tried comes to is shown; where hyperfan never begins, tries are not judged."
    ),
    "5.4: a loss is compared with that of the same net; a loss that is not finite is not judged as slow.",
    (
        "5.4: nets that train are better than guessing among the classes that they are trained on. Fan-out's late loss is "
        "judged where both sides train; hyperfan must train for fan-in to be slower."
    ),
    (
        "5, success: on ImageNet a late loss below guessing's, and not below the first loss of the full-size net; in "
        "continual learning the mean loss over all runs, and not how many survive at a rate chosen for that."
    ),
    (
        "All: a seed whose record lacks something no longer keeps the other seeds from being judged; a method of which "
        "no run survives counts as infinitely worse."
    ),
)
"""What was changed in the criteria after results had been seen."""
