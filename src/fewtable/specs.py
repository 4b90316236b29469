"""The typed form of every YAML under config/, and of what a job is given. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9+.-]+$")]
"""A registered name: one path component."""
ShownName = Annotated[str, Field(pattern=r"^[a-z0-9+.-]+(/[a-z0-9+.-]+)?$")]
"""The name of a table, figure or statistics: ``table1``, or ``PAPER/table1``."""


Engine = Literal["transformers", "vllm"]


class Spec(BaseModel):
    """Base of all specs: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- datasets -------------------------------------------------------------------------------------


class TypeSpec(Spec):
    """An entity type: its natural words and a one-sentence definition, the same for all methods."""

    words: str
    definition: str


class HubSource(Spec):
    """Rows of a Hugging Face dataset, pinned; written as JSON lines of the named columns."""

    repo: str
    revision: str
    config: str | None = None
    split: str
    columns: tuple[str, ...]


class PackageSource(Spec):
    """A file inside an installed or downloadable Python package."""

    name: str
    version: str
    path: str
    order: Annotated[str, Field(pattern=r"^[\d\s]+$")] | None = None
    """The file holds the wanted one's blank-line-separated groups in another order: their indices (from 0)
    in the order wanted. A group is then followed by one empty line."""


class Source(Spec):
    """Exactly one place a file can come from."""

    path: str | None = None
    """A file of your own on this machine, or a target of this workflow; an edit of it reruns what depends on it."""
    url: str | None = None
    hub: HubSource | None = None
    package: PackageSource | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if sum(value is not None for value in (self.path, self.url, self.hub, self.package)) != 1:
            raise ValueError("a source names exactly one of path, url, hub, package")
        return self


class FileSpec(Spec):
    """A raw file: its checksum, its path below a mirror folder, and its sources in order."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    mirror: str | None = None
    sources: tuple[Source, ...] = ()


class HashSplit(Spec):
    """A part of the sentences chosen by the SHA-256 of their lower-cased text, so duplicates stay together.

    A sentence falls in the part when its hash, as a fraction of the hash range, lies in [low, high).
    """

    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class SplitSpec(Spec):
    """A split: raw files in order, and optionally a part of them."""

    files: tuple[str, ...]
    part: HashSplit | None = None
    sentences: int | None = None
    """Number of sentences that the normalised split must have."""
    entities: int | None = None
    """Number of entities that the normalised split must have."""


class MixtureSpec(Spec):
    """A split of several datasets, put together."""

    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    split: Name = "train"
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most sentences of each, drawn at random."""


class DatasetSpec(Spec):
    """config/datasets/NAME.yaml: a corpus with its sources, reader, splits and types."""

    title: str
    domain: str
    licence: str
    homepage: str | None = None
    note: str | None = None
    access: Literal["open", "licensed"] = "open"
    obtain: str | None = None
    """How a person gets what has no source, and where to put it: licensed corpora, moving archives."""
    reader: str
    """A module of fewtable.data.readers."""
    options: dict[str, Any] = {}
    """The reader's options, validated by the reader."""
    files: dict[str, FileSpec]
    splits: dict[Name, SplitSpec]
    types: dict[str, TypeSpec]
    """Corpus type name -> words and definition, in the order that prompts list them."""
    open_types: bool = False
    """The types are those that the data names, words and all: a teacher's own."""
    mixture: MixtureSpec | None = None
    """Datasets that are mixed; files, reader and types follow from it."""
    domains: dict[str, Name] = {}
    """Domain in the raw files -> the dataset whose types it has. The types follow from it: DOMAIN/TYPE, as the reader
    must name them. A task is of those that its support split mentions: the files need not hold all domains."""
    source: Name | None = None
    """The dataset whose train is its source domain: what methods learn from that say ``init: {source: true}``."""
    rename: dict[str, str] = {}
    """Raw tag name -> corpus type name."""
    drop: tuple[str, ...] = ()
    """Raw tag names whose entities are left out. What ``extends`` a dataset drops a type of it by naming it here."""

    @model_validator(mode="before")
    @classmethod
    def _without_dropped(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("types"), dict):
            dropped = value.get("drop") or ()
            return {**value, "types": {name: kind for name, kind in value["types"].items() if name not in dropped}}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        for name, split in self.splits.items():
            if unknown := sorted(set(split.files) - set(self.files)):
                raise ValueError(f"splits.{name}.files names '{unknown[0]}', which is not under files")
        if self.access == "licensed" and not self.obtain:
            raise ValueError("a licensed corpus needs 'obtain': how a person gets it and where to put it")
        return self


# --- settings -------------------------------------------------------------------------------------


EPISODES = ("episodes", "mini-including", "official")
"""The rules whose draws have query sentences of their own."""


class SamplerSpec(Spec):
    """A rule that draws support (and for episodes, query) sentences."""

    rule: Literal[
        "all", "none", "greedy", "greedy-prune", "capped", "exact", "per-type", "episodes", "mini-including", "official"
    ]
    k: Annotated[int, Field(ge=1)] | None = None
    n_way: Annotated[int, Field(ge=1)] | None = None
    q: Annotated[int, Field(ge=1)] | None = None
    """Query shots (episodes) or query sentences (mini-including)."""
    remove_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    time_limit: Annotated[int, Field(ge=1)] = 60
    """Seconds the solver may take (exact); running out of them is an error, never another sample."""
    pool: Annotated[int, Field(ge=1)] | None = None
    """Episodes whose supports make one support and whose queries one query, each sentence of it asked only about the
    types that it holds: what BANER's released code does."""

    @model_validator(mode="after")
    def _shots(self) -> SamplerSpec:
        needs: dict[str, tuple[str, ...]] = {
            "all": (),
            "none": (),
            "official": (),
            "episodes": ("k", "n_way", "q"),
            "mini-including": ("k", "q"),
        }
        wanted = needs.get(self.rule, ("k",))
        for key in ("k", "n_way", "q"):
            if (getattr(self, key) is None) == (key in wanted):
                raise ValueError(f"rule '{self.rule}' {'needs' if key in wanted else 'takes no'} '{key}'")
        if self.pool and self.rule not in EPISODES:
            raise ValueError(f"'pool' is for episodes ({', '.join(EPISODES)}), not for rule '{self.rule}'")
        return self


class QuerySpec(Spec):
    """Which sentences are asked: a split, optionally a fixed random part of it."""

    split: Name = "test"
    limit: Annotated[int, Field(ge=1)] | None = None
    pairs: Annotated[int, Field(ge=1)] | None = None
    """Most pairs of a sentence and a type. Whole sentences are drawn, so that methods with one question for all types
    are asked the same."""


class DrawSpec(Spec):
    """The part of a setting that a draw depends on."""

    sampler: SamplerSpec
    support: Name = "train"
    """The split that support sentences are drawn from; episodes draw their query sentences from it too."""
    query: QuerySpec = QuerySpec()

    @property
    def episodic(self) -> bool:
        """Whether each draw has query sentences of its own."""
        return self.sampler.rule in EPISODES

    @model_validator(mode="after")
    def _apart(self) -> DrawSpec:
        if self.episodic and (self.query.limit or self.query.pairs):
            raise ValueError("query.limit and query.pairs are for fixed splits; in episodes sampler.q says how many")
        if not self.episodic and self.sampler.rule != "none" and self.support == self.query.split:
            raise ValueError(f"support and query are the same split '{self.support}'")
        return self


class SettingSpec(DrawSpec):
    """config/settings/NAME.yaml: how much of a dataset is seen, and what is asked."""

    title: str
    draws: Annotated[int, Field(ge=1)] = 3
    draws_per_job: Annotated[int, Field(ge=1)] = 3
    oracle: str | None = None
    """What it tells methods that nobody knows: a sentence, printed with every column that shows the setting."""

    @model_validator(mode="after")
    def _marked(self) -> SettingSpec:
        if self.sampler.pool and not self.oracle:
            raise ValueError("a setting that pools episodes asks about present types alone: say so under 'oracle'")
        return self


# --- methods ----------------------------------------------------------------------------------------


class InitSpec(Spec):
    """The run that this run starts from; what is left out is as in this run."""

    method: Name | None = None
    dataset: Name | None = None
    setting: Name | None = None
    source: bool = False
    """Start from a run on all of the dataset's own source domain (``source`` of its YAML)."""

    @model_validator(mode="after")
    def _one_place(self) -> InitSpec:
        if self.source and (self.dataset or self.setting):
            raise ValueError("'source' takes the dataset's own source domain; give no 'dataset' or 'setting' beside it")
        return self


class When(Spec):
    """Hyper-parameters that hold where all of the given names match."""

    dataset: tuple[Name, ...] = ()
    setting: tuple[Name, ...] = ()
    """Settings; it holds in those too that extend them, such as the same with fewer draws."""
    backbone: tuple[Name, ...] = ()
    set: dict[str, Any]


class MethodSpec(Spec):
    """config/methods/NAME.yaml: family + format + objective + hyper-parameters."""

    title: str
    paper: str | None = None
    note: str | None = None
    """Printed under every table that shows the method."""
    oracle: str | None = None
    """What it knows that nobody knows, such as a released code's leak: a sentence, printed with every row and cell."""
    family: str
    format: dict[str, Any]
    """``name``: a module of fewtable.formats; the other keys are its options."""
    train: dict[str, Any] = {}
    decode: dict[str, Any] = {}
    init: InitSpec | None = None
    when: tuple[When, ...] = ()
    minutes: Annotated[int, Field(ge=1)] | None = None
    """Time limit of the first attempt of a training job, where the backbone's own is shorter."""


# --- config/config.yaml ---------------------------------------------------------------------------


class TrackingSpec(Spec):
    """Where MLflow stores runs."""

    uri: str = "sqlite:///results/mlflow.db"
    experiment: str = "fewtable"


class RuntimeSpec(Spec):
    """Knobs that change how fast a job is, never what it gives."""

    threads: Annotated[int, Field(ge=1)] = 1
    device_batch: Annotated[int, Field(ge=1)] = 16
    """Most sentences a training forward holds at once; larger batches accumulate gradients."""
    gradient_checkpointing: bool = False
    """Text models compute activations again in the backward: about a third slower, and much less memory."""


class UserConfig(Spec):
    """config/config.yaml: the user's choices."""

    mirror: str | None = None
    """A folder asked for raw files before any source."""
    offline: bool = False
    """Nothing is downloaded: a raw file that is neither in the mirror folder nor fetched already can't be had."""
    licensed: dict[Name, str | None] = {}
    """Dataset -> folder with the user's own licensed copy."""
    tables: tuple[ShownName, ...] = ("demo",)
    """The tables that `snakemake` without a target makes, and that the report shows."""
    draws: dict[Name, Annotated[int, Field(ge=1)]] = {}
    """Setting -> number of draws, in place of the setting's own."""
    overrides: dict[Name, dict[str, Any]] = {}
    """Method -> {train, decode, format} keys in place of the method's own."""
    tracking: TrackingSpec = TrackingSpec()
    runtime: RuntimeSpec = RuntimeSpec()


# --- what a job is given --------------------------------------------------------------------------


class SampleSpec(Spec):
    """The resolved spec of a sampling job (``--spec``)."""

    dataset: str
    setting: DrawSpec
    types: tuple[str, ...]
    draws: tuple[int, ...]
    episodes: dict[str, Any] | None = None
    """How the raw episode files are read (rule ``official``): the dataset's spec of the split."""
    asked: bool = True
    """Whether there are query sentences."""
    mentioned: bool = False
    """Leave out types that the support split does not mention."""
    code: str = ""
    """Fingerprint of the library code that the job uses."""


class RunSpec(Spec):
    """The resolved spec of one job: exactly the keys that can change its result (``--spec``)."""

    dataset: str
    setting: str
    method: str
    backbone: str
    draws: tuple[int, ...]
    types: dict[str, dict[str, str]]
    """Type name -> the parts (words, definition) that the format uses."""
    family: str
    format: dict[str, Any]
    train: dict[str, Any]
    dtype: str
    init: str | None = None
    """Key of the run that this one starts from: DATASET/SETTING/METHOD/BACKBONE."""
    decoding: dict[str, Any] | None = None
    """The decoding options; None in a training job."""
    engine: Engine = "transformers"
    """What generates, in a decoding job."""
    code: str
    """Fingerprint of the library code that the job uses."""
