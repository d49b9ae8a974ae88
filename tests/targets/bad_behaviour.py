"""Bad targets that run: odd weights, replicates that are none, effects on the process."""

from __future__ import annotations

import os
import random
import sys
import warnings

from bad_target import (
    BAD,
    INCONCLUSIVE,
    PREAMBLE,
    REFUTED,
    RIGHT,
    TARGETS,
    VERIFIED,
    Bad,
    bad,
)

# ------------------------------------------------------------------------------------ odd weights


def weights(name, exits, line, *words):
    bad(name, exits, f"def factory():\n    net = Net()\n    {line}\n    return net\n", *words)


weights("NaN weights", REFUTED, "net.A.data.fill_(float('nan'))", "nan|finite")
weights("one NaN weight", REFUTED, "net.B.data[3, 5, 7] = float('nan')", "nan|finite")
weights("infinite weights", REFUTED, "net.A.data.fill_(float('inf'))", "inf|finite")
weights("a NaN embedding", REFUTED, "net.e.data[1, 0] = float('nan')", "nan|finite")
weights("zero weights", REFUTED, "net.A.data.zero_()", "zero|dead|0")
weights("zero weights in the last layer", REFUTED, "net.B.data.zero_()", "zero|0")
weights("all weights zero", REFUTED, "net.A.data.zero_(); net.B.data.zero_()", "zero|0")
weights("squares overflow", REFUTED, "net.A.data.mul_(1e25)")
weights("squares underflow", REFUTED, "net.A.data.mul_(1e-25)")
weights(
    "NaN now and then",
    (REFUTED, INCONCLUSIVE),
    "net.A.data[0, 0, 0] = float('nan') if torch.rand(()) < 0.5 else 0.1",
    "nan|finite",
)

# ----------------------------------------------------------------------- replicates that are none
SAME = "same|fresh|identical|seed|independent"
weights(
    "its own seed",
    (INCONCLUSIVE, BAD),
    "torch.manual_seed(7); net = Net()",
    SAME,
)
bad(
    "one model for every call",
    (INCONCLUSIVE, BAD),
    """
    net = Net()

    def factory():
        return net
    """,
    SAME,
)
bad(
    "another width on each call",
    INCONCLUSIVE,
    """
    def factory():
        width = random.randint(10, 40)
        net = Net()
        net.A = nn.Parameter(torch.randn(width, 16, 12) * math.sqrt(2 / (16 * 12)))
        net.B = nn.Parameter(torch.randn(8, width, 12) * math.sqrt(1 / (width * 12)))
        return net
    """,
    "structure",
)
bad(
    "another depth on each call",
    INCONCLUSIVE,
    """
    class Deep(Net):
        def __init__(self):
            super().__init__()
            self.depth = random.randint(0, 3)
            self.C = nn.Parameter(torch.randn(24, 24, 12) * math.sqrt(2 / (24 * 12)))

        def forward(self, x):
            x = F.relu(F.linear(x, self.A @ self.e[0]))
            for _ in range(self.depth):
                x = F.relu(F.linear(x, self.C @ self.e[0]))
            return F.linear(x, self.B @ self.e[1])

    factory = Deep
    """,
    "structure",
)

# ---------------------------------------------------------------------- global state, side effects


def effect(name, line, state=None, exits=VERIFIED, words=()):
    code = f"def factory():\n    {line}\n    return Net()\n"
    bad(name, exits, code, *words, state=state)


def _torch(name):
    def ask():
        import torch

        return getattr(torch, name)()

    return ask


def _generators():
    import numpy as np
    import torch

    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numbers


effect("prints rubbish", "print('\\x1b[31m\\x00 rubbish {' * 500); print('x', file=sys.stderr)")
effect("writes to descriptor 1", "os.write(1, b'\\xff\\xfe rubbish' * 100)")
effect("closes standard output", "sys.stdout = None", lambda: sys.stdout)
effect(
    "warns", "import warnings; warnings.warn('beware'); warnings.warn('old', DeprecationWarning)"
)
effect(
    "warnings become errors",
    "import warnings; warnings.simplefilter('error')",
    lambda: list(warnings.filters),
)
effect("logs", "import logging; logging.basicConfig(level=0); logging.warning('rubbish')")
effect(
    "default dtype",
    "torch.set_default_dtype(torch.float64)",
    _torch("get_default_dtype"),
    (VERIFIED, INCONCLUSIVE, BAD),
)
effect(
    "default device",
    "torch.set_default_device('meta')",
    _torch("get_default_device"),
    (BAD, INCONCLUSIVE),
    ("meta",),
)
effect("grad mode off", "torch.set_grad_enabled(False)", _torch("is_grad_enabled"))
effect(
    "threads",
    "torch.set_num_threads(torch.get_num_threads() % 2 + 1)",
    _torch("get_num_threads"),
)
effect(
    "deterministic algorithms",
    "torch.use_deterministic_algorithms(True)",
    _torch("are_deterministic_algorithms_enabled"),
)
effect("takes from every generator", "random.random(); torch.rand(9)", _generators)
effect("working directory", "os.chdir('/')", os.getcwd)
effect("environment", "os.environ['RUBBISH'] = '1'", lambda: dict(os.environ))
effect("import path", "sys.path.insert(0, '/nowhere')", lambda: list(sys.path))
effect("recursion limit", "sys.setrecursionlimit(987)", sys.getrecursionlimit)
effect("a signal's handler", "import signal; signal.signal(signal.SIGALRM, lambda *_: None)")
effect(
    "profiler hook",
    "sys.setprofile(lambda *_: None)",
    sys.getprofile,
)
effect("deletes its own file", "os.path.exists(__file__) and os.remove(__file__)")
effect("deletes its own module", "sys.modules.pop(__name__, None)")
effect(
    "a thread that never ends",
    "import threading; threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()",
    None,
    (VERIFIED, INCONCLUSIVE),
)
effect(
    "a thread that keeps the process",
    "import threading; threading.active_count() < 3 and "
    "threading.Thread(target=time.sleep, args=(10**6,)).start()",
    None,
    (VERIFIED, INCONCLUSIVE),
)
effect("kills the process", "os._exit(0)", None, BAD)
TARGETS.append(
    Bad(
        "a name with spaces and accents",
        (VERIFIED,),
        {"mein Netz é.py": PREAMBLE + RIGHT},
        "mein Netz é.py:factory",
    )
)
TARGETS.append(
    Bad(
        "a module of the working directory",
        (VERIFIED,),
        {"package/__init__.py": "", "package/nets.py": PREAMBLE + RIGHT},
        "package.nets:factory",
    )
)
