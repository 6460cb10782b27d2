"""An order shop: orders are billed and shipped, payments are booked, prices are asked for."""
