"""kinema takes demonstrations to a robot policy that can be trusted: record, check, train, evaluate, deploy."""

__version__ = "0.1.0"
