"""The paper's own shapes (Section 5): layer by layer at full size, and the smallest net as it stands.

Large output layers are studied with a batch of inputs each, since one draw of H already shows
hundreds of thousands of independent weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from hyperverify.catalogue.study import Study
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

METHODS = ("hyperfan-in", "hyperfan-out")

# A feature's gradient shows d_k degrees of freedom for a whole draw of H, whatever its size; on
# the large layers the scale of H is read from what shows many more.
LARGE = 4_000
LARGE_QUANTITIES = (
    "weights",
    "biases",
    "forward",
    "backward",
    "dL/dW",
    "dL/dH",
    "trunk",  # of chunks: alpha, which only here shows Var(G)
    "embedding",
)


def _study(spec: HypernetSpec, label: str) -> Study:
    large = max(layer.n_weights for layer in spec.layers) > LARGE
    return Study(spec, "paper", label, LARGE_QUANTITIES if large else ())


def _layer(
    layer: LayerSpec,
    method: str,
    distribution: str,
    dim: int,
    batch: int,
    size: tuple[int, ...] = (),
) -> HypernetSpec:
    """One layer with fresh inputs, embeddings of size ``dim`` from U(-sqrt 3, sqrt 3)."""
    return HypernetSpec(
        layers=(layer,),
        embedding=EmbeddingSpec(dim),
        method=method,
        distribution=distribution,
        input_size=size,
        bias_embedding=EmbeddingSpec(dim) if layer.bias else None,
        batch=batch,
        flow="layerwise",
    )


def mnist() -> Iterator[Study]:
    """Section 5.1: 784-500-500-500-500-500-10, embeddings of 50, the 500 x 500 layers share H."""
    for n, method in enumerate(METHODS):
        for a, b, batch in ((784, 500, 32), (500, 10, 64)):
            spec = _layer(LayerSpec(a, b, bias=True), method, "uniform", 50, batch)
            yield _study(spec, f"MNIST hypernet, layer {a} to {b}")
        hidden = HypernetSpec(
            layers=(LayerSpec(500, 500, relu=n == 0, bias=True),) * 4,
            embedding=EmbeddingSpec(50),
            method=method,
            distribution="normal",
            bias_embedding=EmbeddingSpec(50),
            output="shared",
            flow="layerwise",
            batch=16,
        )
        yield _study(hidden, "MNIST hypernet, four layers 500 to 500 sharing H")


def continual() -> Iterator[Study]:
    """Section 5.2: mainnet 1-10-10-1, ReLU, all of it from one embedding of 2 and two ReLU layers."""
    for n, method in enumerate((*METHODS, "fan-in", "fan-out")):
        for distribution in ("uniform", "normal") if n < 2 else ("uniform",):
            spec = HypernetSpec(
                layers=(
                    LayerSpec(1, 10, relu=True, bias=True),
                    LayerSpec(10, 10, relu=True, bias=True),
                    LayerSpec(10, 1, bias=True),
                ),
                embedding=EmbeddingSpec(2),
                method=method,
                distribution=distribution,
                trunk=(TrunkLayerSpec(10, relu=True), TrunkLayerSpec(10, relu=True)),
                embeddings="one",
            )
            yield _study(spec, "continual-learning hypernet")


def all_cnn() -> Iterator[Study]:
    """Section 5.3: All-CNN's 3 x 3 layers in Ha et al.'s chunks of K = 96, hidden size 50.

    Its 1 x 1 layers do not fit chunks of 3 x 3 and are ordinary layers of the mainnet.
    """
    for method in METHODS:
        for a, b, stride in ((3, 96, 1), (96, 96, 2), (96, 192, 1), (192, 192, 1)):
            spec = HypernetSpec(
                layers=(LayerSpec(a, b, (3, 3), (stride, stride), (1, 1), relu=True),),
                embedding=EmbeddingSpec(50),
                method=method,
                distribution="uniform" if a == 192 else "normal",
                input_size=(3, 3),
                output="chunked",
                chunk=ChunkSpec(96, 50),
                flow="layerwise",
            )
            yield _study(spec, f"All-CNN in chunks, {a} to {b} channels")


def mobilenet() -> Iterator[Study]:
    """Section 5.4: MobileNet v1 at width 1.0, embeddings of 32: every shape of weight it has."""
    shapes: list[tuple[LayerSpec, int]] = [(LayerSpec(3, 32, (3, 3), (2, 2), (1, 1), relu=True), 1)]
    for channels in (32, 64, 128, 256, 512, 1024):
        stride = 2 if channels in (64, 1024) else 1
        depthwise = LayerSpec(
            channels, channels, (3, 3), (stride, stride), (1, 1), groups=channels, relu=True
        )
        shapes.append((depthwise, 1))
    pairs = (
        (32, 64),
        (64, 128),
        (128, 128),
        (128, 256),
        (256, 256),
        (256, 512),
        (512, 512),
        (512, 1024),
        (1024, 1024),
    )
    shapes += [(LayerSpec(a, b, (1, 1), relu=True), 16) for a, b in pairs]
    shapes.append((LayerSpec(1024, 1000), 16))
    for n, (layer, batch) in enumerate(shapes):
        for method in METHODS:
            distribution = "normal" if batch > 1 and layer.relu else ("uniform", "normal")[n % 2]
            size = tuple(min(k, 3) for k in layer.kernel)
            spec = _layer(layer, method, distribution, 32, batch, size)
            kind = "depthwise" if layer.groups > 1 else "layer"
            label = f"MobileNet v1, {kind} {layer.in_channels} to {layer.out_channels}"
            yield _study(spec, label)


def paper() -> Iterator[Study]:
    """All of Section 5's shapes."""
    yield from mnist()
    yield from continual()
    yield from all_cnn()
    yield from mobilenet()
