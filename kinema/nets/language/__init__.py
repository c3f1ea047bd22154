"""Language models: their sizes, their layers, and how text becomes numbers."""
