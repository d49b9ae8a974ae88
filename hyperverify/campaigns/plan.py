"""A plan: what a campaign is asked to do, read from TOML and judged before anything is done."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictStr,
    ValidationError,
)

from hyperverify.campaigns.families import Family
from hyperverify.campaigns.grids import Grid, Suite
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.settings import RunSettings

FORMAT: Final = 1
"""Part of every plan's hash: another format may expand a plan to other units."""

MOST_SEEDS: Final = 1_000_000
_LARGEST: Final = 1_000_000  # bytes of a plan's file
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"integers from 0 to {most}")
    return value


def _seeds(value: object) -> tuple[int, ...] | range:
    """A list of seeds, or a row of them: ``{ first = 0, count = 100 }``."""
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        if set(table) - {"first", "count"} or "count" not in table:
            raise ValueError("a list of integers, or { first = 0, count = 100 }")
        count = _whole(table["count"], MOST_SEEDS)
        first = _whole(table.get("first", 0), 2**62)
        if not count:
            raise ValueError("a count of at least 1")
        return range(first, first + count)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("a list of integers, or { first = 0, count = 100 }")
    return tuple(_whole(item, 2**63 - 1) for item in cast("list[object]", value))


def _plain_seeds(value: tuple[int, ...] | range) -> object:
    if isinstance(value, range):
        return {"first": value.start, "count": len(value)}
    return list(value)


AllSeeds = Annotated[tuple[int, ...] | range, PlainValidator(_seeds), PlainSerializer(_plain_seeds)]


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number")
    return float(value)


Real = Annotated[float, BeforeValidator(_number)]


class Plan(BaseModel):
    """A campaign.

    Attributes:
        name: of the campaign, and of its folder where none is given.
        tolerance, alpha, beta: as of a run; alpha is for the whole campaign.
        seeds: root seeds, in a list or in a row.
        dtypes, devices, backends: every network is checked on each combination of them.
        rules, quantities: only such checks; empty for all.
        grid, random, suite: the networks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: StrictStr = Field(default="campaign", pattern=_NAME)
    tolerance: Real = 0.02
    alpha: Real = 1e-6
    beta: Real = 1e-3
    seeds: AllSeeds = (0,)
    dtypes: tuple[StrictStr, ...] = Field(default=("float32",), min_length=1)
    devices: tuple[StrictStr, ...] = Field(default=("cpu",), min_length=1)
    backends: tuple[StrictStr, ...] = Field(default=("eager",), min_length=1)
    rules: tuple[StrictStr, ...] = ()
    quantities: tuple[StrictStr, ...] = ()
    grid: tuple[Grid, ...] = ()
    random: tuple[Family, ...] = ()
    suite: tuple[Suite, ...] = ()

    @property
    def axes(self) -> int:
        """Units of one network: seeds x dtypes x devices x backends."""
        return len(self.seeds) * len(self.dtypes) * len(self.devices) * len(self.backends)

    def axis(self, number: int) -> tuple[int, str, str, str]:
        """Seed, device, dtype and backend of a network's unit ``number``: the seed moves slowest."""
        rest, backend = divmod(number, len(self.backends))
        rest, device = divmod(rest, len(self.devices))
        seed, dtype = divmod(rest, len(self.dtypes))
        return (
            self.seeds[seed],
            self.devices[device],
            self.dtypes[dtype],
            self.backends[backend],
        )

    @property
    def sha256(self) -> str:
        """Hash of all that the plan says, however it was laid out in its file."""
        data = {"format": FORMAT, **self.model_dump(mode="json")}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def settings(self, seed: int, device: str, dtype: str, backend: str) -> RunSettings:
        """What a run of one unit would be asked to do; refuses values that a run refuses."""
        return RunSettings(
            rules=self.rules,
            tolerance=self.tolerance,
            alpha=self.alpha,
            beta=self.beta,
            seed=seed,
            device=device,
            dtype=dtype,
            backend=backend,
        )


def read_plan(path: str | Path) -> Plan:
    """The plan in a TOML file.

    Raises:
        HyperverifyError: it cannot be read, is no TOML, or asks for what is not allowed. The one line
            names the file, the place in it, the value and what is allowed.
    """
    file = Path(path)
    if not str(path).strip():
        raise BadArgument("PLAN", str(path), "the name of a TOML file")
    try:
        if file.is_dir():
            raise BadArgument("PLAN", str(path), "a TOML file, not a folder")
        with file.open("rb") as stream:
            text = stream.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise HyperverifyError(f"{file} is no plan: it is larger than {_LARGEST} bytes")
        data = tomllib.loads(text.decode("utf-8"))
    except FileNotFoundError:
        raise HyperverifyError(f"{file} does not exist; allowed: a plan, a TOML file") from None
    except OSError as error:
        raise HyperverifyError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise HyperverifyError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise HyperverifyError(f"{file} is not TOML: {error}") from None
    return plan_of(data, str(file))


def plan_of(data: dict[str, Any], name: str = "the plan") -> Plan:
    """The plan that parsed TOML describes; ``name`` opens every message. Errors: see `read_plan`."""
    try:
        plan = Plan.model_validate(data)
    except ValidationError as error:
        raise HyperverifyError(f"{name}: {_first(error)}") from None
    try:
        _judge(plan)
    except HyperverifyError as error:
        raise HyperverifyError(f"{name}: {error}") from None
    return plan


def _judge(plan: Plan) -> None:
    """Refuse what the models cannot see: values that a run refuses, lists that repeat, no networks."""
    from hyperverify.report.words import QUANTITIES

    if not (plan.grid or plan.random or plan.suite):
        raise HyperverifyError("it has no networks; allowed: a [[grid]], [[random]] or [[suite]]")
    for field in ("seeds", "dtypes", "devices", "backends", "rules", "quantities"):
        values = getattr(plan, field)
        if isinstance(values, range):
            continue
        for number, value in enumerate(values):
            if value in values[:number]:
                raise BadArgument(f"{field}[{number}]", value, "each value once")
    for number, quantity in enumerate(plan.quantities):
        if quantity not in QUANTITIES:
            raise BadArgument(f"quantities[{number}]", quantity, "one of " + ", ".join(QUANTITIES))
    usual = {"seed": plan.seeds[0], "device": "cpu", "dtype": "float32", "backend": "eager"}
    _settled(plan, usual, None)
    for field, singular in (("devices", "device"), ("dtypes", "dtype"), ("backends", "backend")):
        for number, value in enumerate(getattr(plan, field)):
            if value == "auto":
                raise BadArgument(f"{field}[{number}]", value, "cpu or cuda: a plan says which")
            _settled(plan, {**usual, singular: value}, f"{field}[{number}]")
    for number in (0, -1) if isinstance(plan.seeds, range) else range(len(plan.seeds)):
        _settled(plan, {**usual, "seed": plan.seeds[number]}, f"seeds[{number}]")


def _settled(plan: Plan, values: dict[str, Any], place: str | None) -> None:
    try:
        plan.settings(**values)
    except BadArgument as error:
        named = {"rule": "rules"}.get(error.name, error.name)
        raise BadArgument(place or named, error.value, error.allowed) from None


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic as one line: place, what was found, what is allowed."""
    complaint = error.errors(include_url=False)[0]
    place = _place(complaint["loc"])
    kind, given = complaint["type"], complaint["input"]
    context = complaint.get("ctx", {})
    allowed = complaint["msg"].removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        allowed = allowed.replace(theirs, ours)
    if kind == "extra_forbidden":
        return f"{place} is an unknown key; allowed: {', '.join(_siblings(complaint['loc']))}"
    if kind == "missing":
        return f"{place} is missing; it is required"
    if kind == "value_error":
        cause = context.get("error")
        if isinstance(cause, HyperverifyError):
            return f"{place}: {cause}" if place else str(cause)
        allowed = str(cause)
    elif kind == "string_pattern_mismatch":
        allowed = "1 to 60 letters, digits, dots, dashes and underscores, beginning with no sign"
    elif kind == "too_short":
        allowed = f"at least {context.get('min_length')} item(s)"
    return str(BadArgument(place, given, allowed))


_WORDS: Final = {
    "a valid tuple": "a list",
    "greater than or equal to": "a number of at least",
    "less than or equal to": "a number of at most",
    "less than": "a number below",
    "a valid dictionary or instance of Grid": "a table, under [[grid]]",
    "a valid dictionary or instance of Family": "a table, under [[random]]",
    "a valid dictionary or instance of Suite": "a table, under [[suite]]",
}
_TABLES: Final[dict[str, type[BaseModel]]] = {
    "grid": Grid,
    "random": Family,
    "suite": Suite,
}


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    parents = [step for step in location[:-1] if isinstance(step, str)]
    return list(_TABLES.get(parents[0] if parents else "", Plan).model_fields)


def _place(location: tuple[int | str, ...]) -> str:
    """``grid[0].widths[1]``."""
    text = ""
    for step in location:
        if isinstance(step, str) and not step.isidentifier():  # pydantic's name of a union's member
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
