"""A black box watched at work: what in a call of any model is a generated layer, and what made it.

The way through the package, each step a pure function of the one before:

    tracer.trace(call, inputs)          -> Trace       every value of one call, by storage (values)
    layers.find_layers(trace)           -> Findings    contractions of data with generated weights, and
                                                       by name what is not covered (graph, operations)
    sources.source_of(trace, ref)       -> Mixture     the tree of contractions behind a weight, entry
                                                       by entry (labels), with bounds (spreads)
    estimates.estimate(mixture, trace)  -> Estimate    one replicate's unbiased estimate of E[W^2]

around which ``replicates.Replicates`` builds fresh models under seeds of their own (alarm),
``observations.Observed`` gathers what they say (evenness), and ``describe`` puts it into records.

Nothing here knows what should be: see `hyperverify.expectations` and `hyperverify.checking`.

The estimate. Given what lies below a contraction H f, E|H f|^2 = Var(H) |f|^2, whatever f is. So
|W|^2 / |h|^2, and likewise each hidden layer's |z|^2 / |g|^2 (halved behind a ReLU), has a mean that does
not depend on the rest, and the product of all of them with the embedding's mean square has mean E[W^2].
Each factor's relative spread given the rest follows from shapes (2/n_W, 2/width, (kurtosis - 1)/d), so
the product's does. Where the chain cannot be followed (biases that are live, tanh, products of two
generated factors, W = parameter + H h), the mean square itself takes the place of the missing factors,
with a bound from the graph.
"""
