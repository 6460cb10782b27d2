"""Where the shop's messages go. Every service imports this, and none imports another service."""

from examples.shop.models import OrderPlaced, PaymentTaken, Quote, QuoteRequest

from msgbus import Rpc, Topic

orders = Topic("orders", OrderPlaced, key="customer_id", ordered=True)  # a customer's orders, one after the other
payments = Topic("payments", PaymentTaken, key="customer_id")
quotes = Rpc("quotes", QuoteRequest, Quote)
