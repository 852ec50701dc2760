"""Requests and answers of the server: its OpenAPI document, which tests/serve/openapi.json freezes.

Requests refuse what they do not know. Answers may gain fields, and lose none within `/v1`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from xsearch.types import FALSE_ALARMS, Match, Modality, Rank, Sort

__all__ = [
    "MAX_PARTS",
    "MAX_PICTURES",
    "MAX_TOP",
    "Box",
    "Choice",
    "Column",
    "Drawing",
    "DrawingRequest",
    "EmbedRequest",
    "EmbedResponse",
    "Facet",
    "Facets",
    "File",
    "Form",
    "Health",
    "Held",
    "Hit",
    "Info",
    "Item",
    "ItemDetail",
    "Items",
    "Limits",
    "LocateRequest",
    "Located",
    "Login",
    "MapPoints",
    "Model",
    "Options",
    "Part",
    "PartAnswer",
    "Picture",
    "Position",
    "PositionRequest",
    "Problem",
    "QueryAnswer",
    "SearchRequest",
    "SearchResponse",
    "Signal",
    "Similar",
    "State",
    "Stop",
    "Upload",
    "Window",
    "Writer",
]

MAX_PARTS = 32
MAX_TOP = 10_000  # hits of an answer, and how far it may begin
MAX_WEIGHT = 1e6
MAX_TEXT = 20_000  # letters
MAX_DIM = 16_384
MAX_WHERE = 100_000  # as `store.filters`
MAX_ID = (1 << 63) - 1
MAX_PICTURES = 8  # of a drawing
MAX_SEED = (1 << 32) - MAX_PICTURES

Id = Annotated[StrictInt, Field(ge=0, le=MAX_ID)]
UploadId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(Request):
    """One medium of a query: exactly one of text, upload, item and vector."""

    kind: Modality | None = Field(None, description="Needed with a vector; takes an upload as another kind.")
    weight: Annotated[float, Field(allow_inf_nan=False, ge=-MAX_WEIGHT, le=MAX_WEIGHT)] = 1.0
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] | None = None
    upload: UploadId | None = Field(None, description="The id that `POST /v1/uploads` returned.")
    item: Id | None = None
    vector: Annotated[list[Number], Field(min_length=1, max_length=MAX_DIM)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [name for name in ("text", "upload", "item", "vector") if getattr(self, name) is not None]
        if len(sources) != 1:
            raise ValueError(
                f"expected one of text, upload, item, vector; got {' and '.join(sources) or 'none'}"
            )
        if self.vector is not None and self.kind is None:
            raise ValueError("a vector needs the kind of what it is of")
        if self.text is not None and self.kind not in (None, Modality.TEXT):
            raise ValueError(f"a text is of kind text, not {self.kind}")
        if self.item is not None and self.kind is not None:
            raise ValueError("an item has its own kind; leave out kind")
        return self


Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]


class Options(Request):
    """Which items may answer, how many, and in which order; see `xsearch.query.Options`."""

    top: Annotated[int, Field(ge=1, le=MAX_TOP)] = 10
    offset: Annotated[int, Field(ge=0, le=MAX_TOP)] = Field(0, description="Hits that are left out.")
    modality: list[Modality] | None = Field(None, description="Kinds of items; null for all.")
    where: Annotated[str, Field(max_length=MAX_WHERE)] | None = Field(
        None, description="One SQL expression over the columns of `GET /v1/info`."
    )
    rank: Rank = Rank.BALANCED
    match: Match | None = None
    min_cosine: Annotated[float, Field(ge=-1, le=1)] | None = None
    max_expected: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    unique: bool = Field(False, description="Fold near duplicates.")
    sort: Sort | None = Field(None, description="Put the best in the order of their taken_at.")
    among: Annotated[int, Field(ge=1, le=MAX_TOP)] | None = Field(
        None,
        description="With sort: how many of the best are put in order and paged; by default offset + top.",
    )
    exclude_self: bool = Field(False, description="Leave out the items of the query's own files.")
    anyway: bool = Field(False, description="Search though the model knows no word of a text.")


class SearchRequest(Options):
    """A query, as a sum of parts, and its options."""

    parts: Parts


class Similar(Options):
    """The options of a search with an item."""

    model_config = ConfigDict(extra="ignore")

    exclude_self: bool = True


class PositionRequest(Request):
    """A query, as a sum of parts."""

    parts: Parts


class DrawingRequest(Request):
    """A query to be drawn, as a sum of parts; the settings are the decoder's unless stated."""

    parts: Parts
    count: Annotated[int, Field(ge=1, le=MAX_PICTURES)] = 1
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = Field(
        0, description="Of the first picture; the next has the next."
    )
    steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance: Annotated[float, Field(ge=0, le=30)] | None = None
    candidates: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None, description="Drawn for each picture; the one nearest to the query is kept."
    )
    anyway: bool = Field(False, description="Draw though the model knows no word of a text.")


class LocateRequest(Request):
    """What to look for in a picture, as a sum of parts."""

    parts: Parts
    false_alarms: Annotated[float, Field(ge=0.01, le=0.2)] = Field(
        FALSE_ALARMS, description="The share of pictures without it that may get a box."
    )
    anyway: bool = Field(False, description="Look though the model knows no word of a text.")


class Login(Request):
    """The token of the server."""

    token: Annotated[str, Field(max_length=1000)]


class Health(BaseModel):
    """That the server is up."""

    status: Literal["ok"]


class EmbedRequest(Request):
    """Queries to be embedded, each a sum of parts."""

    queries: Annotated[list[Parts], Field(min_length=1, max_length=64)]


class EmbedResponse(BaseModel):
    """The vectors that these queries are searched with, of length 1."""

    collection: str
    model: str
    dim: int
    vectors: list[list[float]]


class PartAnswer(BaseModel):
    """One part as it was understood."""

    kind: Modality
    label: str = Field(description="Its text, the name of its file, or `vector`.")
    weight: float
    cosine: float | None = Field(description="With the sum; null if words alone were compared.")
    windows: int | None = Field(description="How many pieces its vector is the mean of.")
    text: str | None = None
    upload: str | None = None
    item: int | None = None


class QueryAnswer(BaseModel):
    """A query as it was understood."""

    name: str = Field(description="“a dog” + 0.5 × audio sea.wav − “cage”")
    parts: list[PartAnswer]
    norm: float | None = Field(description="Length of the weighted sum; near 0 the parts cancel out.")
    left_out: list[str] = Field(description="Words that the model has not learned, and has not read.")
    by_words: bool = Field(description="Whether words alone were compared.")


class Item(BaseModel):
    """A stored item. Links are null where nothing can be sent."""

    id: int
    modality: Modality
    path: str
    name: str = Field(description="Of its file, without the folder.")
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    extra: dict[str, Any] = Field(description="All other columns that it has.")
    is_imported: bool = Field(description="Only an import names its file, which is not opened therefore.")
    media: str | None = Field(description="Link to the file itself.")
    media_type: str | None = Field(description="Content type of `media`; application/octet-stream downloads.")
    preview: str | None = Field(description="Link to a picture or drawing of it; takes size, form and at.")


class Hit(Item):
    """One search result."""

    rank: int = Field(description="From 1; with sort still that of the score.")
    score: float
    cosine: float | None = None
    balanced: float | None = None
    expected: float | None = Field(None, description="Items that would be as near by chance.")
    bm25: float | None = None
    by_chance: bool = Field(description="Whether expected is above 1 and no words match.")


class SearchResponse(BaseModel):
    """The answer to a query, of one state of the collection. As JSON lines: it without hits, then each."""

    collection: str
    generation: int
    query: QueryAnswer
    hits: list[Hit]
    offset: int
    more: bool = Field(description="Whether there may be hits after these.")
    found: bool = Field(description="Whether some hit is nearer than by chance, or matches by its words.")
    remark: str = Field(description="The sentence for people if nothing is like the query.")
    nearest_expected: float | None
    kinds: int = Field(description="How many kinds may answer.")
    missing_shards: list[int] = Field(
        default=[], description="Shards of the index that did not answer: hits may be missing."
    )
    took_ms: float


class Items(BaseModel):
    """Items without a query. As JSON lines: this without items, then the items."""

    collection: str
    generation: int
    items: list[Item]
    count: int = Field(description="How many pass the filters.")
    offset: int
    more: bool


class Window(BaseModel):
    """One item of a file."""

    id: int
    modality: Modality
    start_s: float | None = None
    end_s: float | None = None


class File(BaseModel):
    """The file of an item."""

    path: str
    folder: str
    bytes: int | None
    duration_s: float | None
    windows: list[Window] = Field(description="All items of the file, this one too; at most 1000.")
    copies: list[Window] = Field(description="Items of other files with the same content; at most 100.")


class ItemDetail(Item):
    """An item, its file, and whether browsers show the file as it is."""

    collection: str
    generation: int
    file: File
    plays: bool = Field(description="Whether browsers show or play `media` as it is.")
    problem: str = Field(description="Why the file cannot be opened, empty if it can.")


class Stop(BaseModel):
    """A value and its colour, #rrggbb."""

    value: float
    colour: str


class Signal(BaseModel):
    """Numbers to draw: peaks of a sound, axes of a motion, the range of a depth map or thermal picture."""

    kind: Modality
    start_s: float | None = None
    end_s: float | None = None
    unit: dict[str, str] = Field(description="By series, such as m/s².")
    series: dict[str, list[float]] = Field(
        description="peak (audio, 0..1), or time_s, accel_x … gyro_z; evenly spaced, at most 1000 each."
    )
    legend: list[Stop] = Field(default=[], description="Of a colour map, by falling or rising value.")


class Box(BaseModel):
    """A rectangle in a picture, in shares of its width and height from the top left, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = Field(description="In standard deviations of unrelated queries, above their mean.")


class Located(BaseModel):
    """Where in the picture of an item a query is."""

    collection: str
    generation: int
    id: int
    boxes: list[Box] = Field(description="The best first; none if it is not there.")
    score: float = Field(description="Of the best candidate, also without a box.")
    threshold: float = Field(description="The least score of a box.")
    false_alarms: float | None = Field(
        description="The share of pictures without it that get a box; null if not measured for the model."
    )
    heat: list[list[float]] = Field(description="Rows of a heat map of the whole picture, 0 to 1.")


class Upload(BaseModel):
    """A file that may be a part of queries until it expires. Using it starts its time anew."""

    id: UploadId
    name: str
    kind: Modality
    mime: str
    bytes: int
    expires_s: float
    preview: str


class Picture(BaseModel):
    """A picture that was drawn."""

    link: str
    seed: int
    is_filtered: bool = Field(description="Whether a safety filter of the decoder has blackened it.")


class Drawing(BaseModel):
    """A drawing, which is kept until others need the room. Pictures come one by one."""

    id: UploadId
    state: Literal["waiting", "drawing", "done", "failed"]
    done: int = Field(description="Steps of `total`.")
    total: int
    pictures: list[Picture]
    problem: Problem | None = Field(description="Why it failed.")


class Choice(BaseModel):
    """One value of a facet."""

    value: str
    count: int
    where: str = Field(description="The filter that selects it; join several with AND or OR in brackets.")


class Facet(BaseModel):
    """The values of a column and their counts, most frequent first; months by date, the newest first."""

    column: str
    values: list[Choice]
    others: int = Field(description="How many more values there are.")
    missing: int = Field(description="Items without a value.")


class Facets(BaseModel):
    """Counts of the items that pass the filters."""

    collection: str
    generation: int
    count: int
    facets: list[Facet]


class Column(BaseModel):
    """A column of the items, for `where`."""

    name: str
    type: str = Field(description="As Arrow names it.")
    is_user: bool = Field(description="Whether it is metadata of the user or the files.")


class Model(BaseModel):
    """The model that embedded a collection."""

    name: str
    digest: str
    dim: int
    is_loaded: bool


class Held(BaseModel):
    """A collection that is served."""

    name: str
    items: int
    generation: int


class Writer(BaseModel):
    """Who is writing to a collection now, such as an ingest."""

    pid: int
    host: str
    since: str


class State(BaseModel):
    """An event of `GET /v1/events`."""

    collection: str
    generation: int
    items: int
    writer: Writer | None


class Limits(BaseModel):
    """What a request may bring."""

    upload_bytes: int
    uploads: int
    upload_age_s: float
    body_bytes: int
    parts: int
    top: int


class Info(BaseModel):
    """What is served. `facets`: kind, month, folder, camera and others, of all items."""

    version: str
    collection: str
    collections: list[Held]
    path: str
    generation: int
    items: int
    kinds: dict[str, int]
    index: str
    model: Model
    columns: list[Column]
    facets: list[Facet]
    writer: Writer | None
    limits: Limits


class MapPoints(BaseModel):
    """Items on a plane: parallel lists. x and y are within -1 to 1."""

    collection: str
    generation: int
    method: Literal["pca", "umap", "pacmap"]
    pending: str | None = Field(description="A better method that is being computed: ask again later.")
    count: int = Field(description="How many items pass the filters; there may be fewer points.")
    kinds: list[str] = Field(description="Names for `kind`.")
    id: list[int]
    kind: list[int]
    x: list[float]
    y: list[float]


class Position(BaseModel):
    """Where a query lies on the map."""

    x: float
    y: float


class Problem(BaseModel):
    """RFC 9457. Media type application/problem+json."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="urn:xsearch:… , stable; see `xsearch.serve.problems`.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, for people.")


Form = Literal["picture", "spectrogram", "sound", "text"]
