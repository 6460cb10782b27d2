"""What is published can be read back, or is refused before it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from msgbus import Bus, Queue, Rpc, Topic
from msgbus.codecs.json import Json as JsonCodec
from msgbus.errors import ConfigError, Refused


class Aliased(BaseModel):
    order_id: int = Field(alias="orderId")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    order_id: int


class Choices(BaseModel):
    order_id: int = Field(validation_alias=AliasChoices("order_id", "orderId"))


class Written(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    order_id: int = Field(alias="orderId")


class Inner(BaseModel):
    many: list[Aliased]


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    net: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gross(self) -> int:
        return self.net * 2


class Kept(BaseModel):
    """Computed fields that harm nobody are written."""

    net: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gross(self) -> int:
        return self.net * 2


class WithJson(BaseModel):
    numbers: Json[list[int]]


class Optional(BaseModel):
    note: str = Field("none", exclude=True)


class Told(BaseModel):
    secret: SecretStr

    @field_serializer("secret", when_used="json")
    def tell(self, secret: SecretStr) -> str:
        return secret.get_secret_value()


@dataclass
class Data:
    order_id: Annotated[int, Field(alias="orderId")]


class Typed(TypedDict):
    order_id: Annotated[int, Field(alias="orderId")]


class Tree(BaseModel):
    children: list[Tree] = []


class Renamed(BaseModel):
    order_id: int = Field(validation_alias="id")

    @model_validator(mode="before")
    @classmethod
    def rename(cls, data: Any) -> Any:
        return {"id": data["order_id"]} if "order_id" in data else data


READABLE: list[tuple[Any, Any]] = [
    (Aliased, Aliased(orderId=1)),
    (Camel, Camel(order_id=1)),
    (Choices, Choices(order_id=1)),
    (Written, Written(orderId=1)),
    (Inner, Inner(many=[Aliased(orderId=1)])),
    (list[Aliased], [Aliased(orderId=1)]),
    (Computed, Computed(net=1)),
    (WithJson, WithJson.model_validate({"numbers": "[1, 2]"})),
    (Optional, Optional(note="none")),
    (Told, Told(secret=SecretStr("s"))),
    (Data, Data(order_id=1)),
    (Typed, {"order_id": 1}),
    (Tree, Tree(children=[Tree(), Tree(children=[Tree()])])),
    (Renamed, Renamed.model_validate({"id": 1})),
]


@pytest.mark.parametrize(("type_", "value"), READABLE, ids=[str(getattr(t, "__name__", t)) for t, _ in READABLE])
def test_what_is_written_is_read_back(type_: Any, value: Any) -> None:
    coder = JsonCodec().bind(type_)
    assert coder.unreadable == ""
    assert coder.decode(coder.encode(value)) == value


def test_computed_fields_are_written_where_they_can_be_read() -> None:
    assert JsonCodec().bind(Kept).encode(Kept(net=1)) == b'{"net":1,"gross":2}'


def test_names_are_as_they_were_where_both_are_read() -> None:
    assert JsonCodec().bind(Camel).encode(Camel(order_id=1)) == b'{"order_id":1}'


class Foreign(BaseModel):
    order_id: int = Field(validation_alias="id")


class Deep(BaseModel):
    order_id: int = Field(validation_alias=AliasPath("order", "id"))


class Holder(BaseModel):
    each: dict[str, Foreign]


class Excluded(BaseModel):
    note: str = Field(exclude=True)


class Secret(BaseModel):
    password: SecretStr | None = None


class Bytes(BaseModel):
    keys: list[SecretBytes]


UNREADABLE = [
    (Foreign, "order_id is written as 'order_id' and read as 'id'"),
    (Deep, "order_id is written as 'order_id'"),
    (Holder, "each.order_id is written as 'order_id'"),
    (Excluded, "note is excluded and required: give it a default"),
    (Secret, "password is a secret and written as stars"),
    (Bytes, "keys is a secret"),
]


@pytest.mark.parametrize(("type_", "said"), UNREADABLE, ids=[type_.__name__ for type_, _ in UNREADABLE])
async def test_what_can_t_be_read_back_is_not_published(type_: Any, said: str) -> None:
    bus = Bus("memory://")
    for target in (Topic("t", type_), Queue("q", type_), Rpc("r", type_, int)):
        fresh = Bus("memory://")
        fresh.publishes(target)
        with pytest.raises(ConfigError, match=f"{target!r}.*{said}".replace("(", r"\(").replace(")", r"\)")):
            async with fresh:
                pass

    @bus.consumer(Queue("theirs", type_))
    async def read(payload: Any) -> None: ...

    async with bus.consuming():
        pass  # who only reads what others write is welcome


async def test_a_reply_too() -> None:
    bus = Bus("memory://")

    @bus.responder(Rpc("ask", int, Excluded))
    async def answer(number: int) -> Excluded:
        return Excluded(note="x")

    with pytest.raises(ConfigError, match="note is excluded and required"):
        async with bus.consuming():
            pass


def deep(levels: int) -> Tree:
    tree = Tree()
    for _ in range(levels):
        tree = Tree(children=[tree])
    return tree


async def test_what_is_nested_too_deep_to_be_read_is_not_published() -> None:
    trees = Queue("trees", Tree)
    bus = Bus("memory://")

    @bus.consumer(trees)
    async def climb(tree: Tree) -> None: ...

    async with bus.consuming():
        await bus.send(trees, deep(90))
        with pytest.raises(Refused, match="nested deeper than 200"):
            await bus.send(trees, deep(110))
