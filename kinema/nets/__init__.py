"""Networks: encoders, trunks and the contracts between them."""
