"""Bad targets that do not import, build, run or end, and calls with wrong options."""

from __future__ import annotations

from bad_target import BAD, INCONCLUSIVE, INPUT, PREAMBLE, RIGHT, VERIFIED, bad, files

# ---------------------------------------------------------------------------------- does not import
files("no such file", {}, r"missing\.py", target="missing.py:factory")
files("no such module", {}, r"no_such_module_here", target="no_such_module_here:factory")
files("no name after the colon", {"target.py": PREAMBLE + RIGHT}, "name", target="target.py:")
files("no colon", {"target.py": PREAMBLE + RIGHT}, "name", target="target.py")
files("a folder", {"folder.py/inner.txt": ""}, r"folder\.py", target="folder.py:factory")
files("an empty file", {"target.py": ""}, "factory")
files("syntax error", {"target.py": "def factory(:\n    pass\n"}, "SyntaxError")
files("indentation error", {"target.py": "def factory():\nreturn 1\n"}, "IndentationError")
files("not text", {"target.py": b"\x00\xff\xfe\x80" * 40}, "SyntaxError|ValueError|null|decode")
files(
    "missing dependency",
    {"target.py": "import no_such_dependency\n"},
    "ModuleNotFoundError|no_such_dependency",
)
files("raises while imported", {"target.py": "1 / 0\n"}, "ZeroDivisionError")
files("leaves while imported", {"target.py": "import sys\nsys.exit(0)\n"}, "SystemExit|exit")
bad("wrong name", BAD, RIGHT, "factori", target="target.py:factori")
bad("not callable", BAD, "factory = 3", "call|int")

# ----------------------------------------------------------------------------------- wrong options
bad("no input shape", BAD, RIGHT, "--input", options=())
bad("a shape of letters", BAD, RIGHT, "abc", options=("--input", "abc"))
bad("a shape of zero", BAD, RIGHT, "--input|shape|at least 1", options=("--input", "0"))
bad("an unknown expectation", BAD, RIGHT, "hyperfan", options=(*INPUT[:2], "--expect", "nice"))
bad("tolerance of zero", BAD, RIGHT, "tolerance", options=(*INPUT, "--tolerance", "0"))
bad("alpha of two", BAD, RIGHT, "alpha", options=(*INPUT, "--alpha", "2"))
bad("no seconds at all", BAD, RIGHT, "seconds", options=(*INPUT, "--max-seconds", "-1"))
bad(
    "inputs that do not exist",
    BAD,
    RIGHT,
    "inputs|missing",
    options=("--inputs", "missing.py:function"),
)
bad(
    "inputs that raise",
    BAD,
    RIGHT + "\ndef inputs(*args):\n    raise ValueError('no data today')\n",
    "no data today|inputs",
    options=("--inputs", "target.py:inputs"),
)

# ----------------------------------------------------------------------- does not build or not run
bad("wrong shape", BAD, RIGHT, "shape|size|mat1", options=("--input", "17"))
bad(
    "factory with an argument", BAD, "def factory(width):\n    return Net()\n", "argument|TypeError"
)
bad("factory raises", BAD, "def factory():\n    raise RuntimeError('out of luck')", "out of luck")
bad("returns None", BAD, "def factory():\n    Net()\n", "None")
bad("returns a number", BAD, "def factory():\n    return 7\n", "int|call")
bad("returns a tensor", BAD, "def factory():\n    return torch.ones(3)\n", "Tensor|call")
bad("returns the class", BAD, "def factory():\n    return Net\n", "Net|TypeError|class|argument")
bad("a coroutine", BAD, "async def factory():\n    return Net()\n", "coroutine|call")
bad(
    "call returns None",
    (BAD, INCONCLUSIVE),
    """
    class Silent(Net):
        def forward(self, x):
            super().forward(x)

    factory = Silent
    """,
    "None",
)
bad(
    "call raises",
    BAD,
    """
    class Raises(Net):
        def forward(self, x):
            raise KeyError("no such layer")

    factory = Raises
    """,
    "no such layer|KeyError",
)
bad(
    "raises a page of text",
    BAD,
    "def factory():\n    raise ValueError('first line\\n' + 'noise\\n' * 5000)",
    "first line",
)
bad(
    "raises what cannot be shown",
    BAD,
    """
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def factory():
        raise Mute
    """,
    "Mute",
)
bad(
    "raises no ordinary exception",
    BAD,
    """
    class Odd(BaseException):
        pass

    def factory():
        raise Odd("very odd")
    """,
    "Odd",
)
bad("endless recursion", BAD, "def factory():\n    return factory()\n", "RecursionError|recursion")
bad("leaves", BAD, "def factory():\n    sys.exit(0)\n", "SystemExit|exit")
bad(
    "leaves in the call",
    BAD,
    """
    class Leaves(Net):
        def forward(self, x):
            raise SystemExit(0)

    factory = Leaves
    """,
    "SystemExit|exit",
)
bad("reads standard input", BAD, "def factory():\n    return Net(input('how wide? '))", "EOF|input")
bad(
    "works once",
    BAD,
    """
    calls = []

    def factory():
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("only once")
        return Net()
    """,
    "only once",
)
bad(
    "integers only",
    BAD,
    """
    class Tokens(Net):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(50, 16)

        def forward(self, ids):
            return super().forward(self.table(ids))

    factory = Tokens
    """,
    "--inputs|int",
)
bad("on the meta device", BAD, "def factory():\n    return Net().to('meta')", "meta")
bad("huge", BAD, "def factory():\n    return torch.empty(10**14)", "memory")
bad(
    "huge in the call",
    BAD,
    """
    class Huge(Net):
        def forward(self, x):
            return super().forward(x) + torch.zeros(8 * 10**13).view(-1, 8).sum(0)

    factory = Huge
    """,
    "memory",
)
bad(
    "no generated layer", BAD, "def factory():\n    return nn.Linear(16, 8)\n", "no generated layer"
)
bad("no layer at all", BAD, "def factory():\n    return nn.ReLU()\n", "no generated layer")

# ------------------------------------------------------------------------------------------- hangs
SECONDS = (*INPUT, "--max-seconds", "1")
bad(
    "factory hangs",
    (BAD, INCONCLUSIVE),
    "def factory():\n    time.sleep(10**6)",
    "second",
    options=SECONDS,
)
bad(
    "factory spins",
    (BAD, INCONCLUSIVE),
    "def factory():\n    while True:\n        pass",
    "second",
    options=SECONDS,
)
bad(
    "call hangs",
    (BAD, INCONCLUSIVE),
    """
    class Hangs(Net):
        def forward(self, x):
            time.sleep(10**6)

    factory = Hangs
    """,
    "second",
    options=SECONDS,
)
bad(
    "second call hangs",
    (INCONCLUSIVE, BAD),
    """
    calls = []

    class Hangs(Net):
        def forward(self, x):
            calls.append(1)
            if len(calls) > 1:
                time.sleep(10**6)
            return super().forward(x)

    factory = Hangs
    """,
    "second",
    options=SECONDS,
)
bad(
    "hangs and swallows interruptions",
    (BAD, INCONCLUSIVE),
    """
    def factory():
        while True:
            try:
                time.sleep(10**6)
            except BaseException:
                pass
    """,
    "second",
    options=SECONDS,
)
bad(
    "import hangs",
    (BAD, INCONCLUSIVE),
    "time.sleep(10**6)\n",
    "second",
    options=SECONDS,
)
bad(
    "a second for each call",
    (INCONCLUSIVE, BAD, VERIFIED),
    """
    def factory():
        time.sleep(1)
        return Net()
    """,
    options=(*INPUT, "--max-seconds", "4"),
)
