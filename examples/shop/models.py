"""What the shop's services tell each other."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field


class OrderPlaced(BaseModel):
    order_id: str
    customer_id: str
    sku: str
    pieces: Annotated[int, Field(ge=1)]
    country: str
    total: Decimal


class PaymentTaken(BaseModel):
    order_id: str
    customer_id: str
    amount: Decimal


class QuoteRequest(BaseModel):
    sku: str
    pieces: Annotated[int, Field(ge=1)] = 1


class Quote(BaseModel):
    sku: str
    price: Decimal
