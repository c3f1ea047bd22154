"""Networks: encoders, trunks, denoisers and the contracts between them."""
