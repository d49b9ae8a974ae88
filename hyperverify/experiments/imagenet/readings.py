"""What the paper leaves open about Section 5.4, how it was read here, and what the arrays are."""

from __future__ import annotations

from typing import Final

from hyperverify.experiments.records import Reading

READINGS: Final = (
    Reading(
        question="What is block-wise sampling?",
        reading="noise from U(-0.1, 0.1) on the embedding of each layer, drawn once a layer and batch; "
        "embeddings from U(-√3, √3), which stay as they are",
        other="a draw a chunk of weights, or a kernel (Ukai et al.'s finer strategies)",
    ),
    Reading(
        question="Does the initialization reckon with the noise?",
        reading="no: Var(e) = 1. The noise makes E[e²] = 1 + 0.01/3, which all predictions here have in them",
        other="Var(e) = 1 + 0.01/3, a third of a percent less",
    ),
    Reading(
        question="Which Kaiming?",
        reading="Var(H) = s/32 (fan-in) and s over the entries of W (fan-out), s = 2 where ReLU follows the "
        "mainnet's layer, batch norm between them or not, and 1 for the last layer",
        other="s = 2 for all",
    ),
    Reading(
        question="How do the layers share?",
        reading="an embedding and an output layer of its own for each (the paper's “32 times as many "
        "parameters”)",
        other="",
    ),
    Reading(
        question="What is regularized?",
        reading="all that is trained: H, beta, batch norm's scales and shifts, an ordinary last layer; as "
        "weight decay, 0.0005/2 times the sum of squares",
        other="0.0005 times the sum of squares; H alone",
    ),
    Reading(
        question="Which statistics does batch norm take?",
        reading="the batch's own, in training and at test, where the weights change with each draw; its "
        "scales and shifts are trained, not generated",
        other="running averages at test",
    ),
    Reading(
        question="What are the ten Monte Carlo samples?",
        reading="ten nets, each drawn once for all test images; their probabilities are averaged before "
        "the loss is taken",
        other="ten draws a test batch; an average of ten losses",
    ),
    Reading(
        question="What is the last layer where it is not generated?",
        reading="an ordinary linear layer without bias, drawn by fan-in (variance 1/fan-in) under all "
        "initializations and trained at the same rate",
        other="PyTorch's default; with a bias",
    ),
    Reading(
        question="Are biases generated?",
        reading="no: batch norm follows all layers but the last, which has none",
        other="one for the last layer",
    ),
    Reading(
        question="How are images prepared?",
        reading="the smaller side scaled, the middle cut out, standardized by ImageNet's means and standard "
        "deviations; no augmentation",
        other="random crops and reflections",
    ),
    Reading(
        question="Which optimizer?",
        reading="SGD without momentum, the rate 0.1 throughout",
        other="momentum, or a schedule",
    ),
)

QUANTITIES: Final = {
    "pre-activations": "z = W x, before batch norm",
    "activations": "what batch norm and ReLU make of it (of the last layer: logits)",
    "gradients": "dL/dz",
    "weights": "W",
    "weight-gradients": "dL/dW",
}
"""What is measured before the first step, of one hypernet on one batch."""

MEANING: Final = {
    **{f"init/{name}": f"(layers,): second moment of {what}" for name, what in QUANTITIES.items()},
    "init/loss": "(draws,): first loss of several hypernets on that batch; the first is looked at",
    "train_loss": "(iterations,): mean cross entropy of each batch, without the L2-regularization",
    "tested": "(tests,): batches trained on before each test",
    "test_loss": "(tests,): cross entropy of the averaged probabilities, mean over the test images",
    "test_accuracy": "(tests,): share of the test images that is right",
}
